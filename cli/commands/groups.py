"""Commands about groups of a running service: groups, groups show, decide."""

import getpass
from pathlib import Path

import click

from cli.commands import options
from cli.commands.clients import connected
from streams import settings


@click.group(invoke_without_command=True)
@click.option(
    "--state",
    default="open",
    show_default=True,
    type=click.Choice(["open", "decided", "all"]),
    help="open: groups that wait for a person.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each group.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table with a line for each image.")
@options.setting_options(*options.KAFKA)
@click.pass_context
def groups(ctx: click.Context, environ: dict[str, str], state: str, as_json: bool, as_csv: bool) -> None:
    """List the groups of images of one picture, as the running service has them.

    In CSV, a path that a spreadsheet would take for a formula begins with an apostrophe.
    """
    from cli.groups import show_groups

    if ctx.invoked_subcommand is not None:
        return
    if as_json and as_csv:
        raise click.UsageError("--json and --csv: one of them")
    with connected(environ, "groups") as kafka:
        show_groups(kafka, state, "json" if as_json else "csv" if as_csv else "text")


@groups.command()
@click.argument("group", metavar="ID|PATH")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@options.setting_options(*options.KAFKA)
def show(environ: dict[str, str], group: str, as_json: bool) -> None:
    """Show the group with this id, or the one that holds this image: its images, and what people said of them."""
    from cli.groups import show_group

    with connected(environ, "groups") as kafka:
        show_group(kafka, group, as_json=as_json)


@groups.command()
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each.")
@options.setting_options(*options.KAFKA)
def decisions(environ: dict[str, str], as_json: bool) -> None:
    """List all that people have decided, the newest last."""
    from cli.groups import show_decisions

    with connected(environ, "groups") as kafka:
        show_decisions(kafka, as_json=as_json)


@click.command()
@click.argument("left", metavar="A", required=False)
@click.argument("right", metavar="B", required=False)
@click.argument("word", metavar="WORD", required=False)
@click.option(
    "--from",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take all decisions of a file: lines of JSON, or CSV, with left, right and decision; and, where they are "
    "there, keep (a path), who, note, when.",
)
@click.option("--keep", multiple=True, metavar="PATH", help="With duplicate: an image to keep. Repeat it for more.")
@click.option("--note", default="", help="Why.")
@click.option("--who", help="Who decides, where a file does not say.  [default: the user's name on this machine]")
@click.option("--replace", is_flag=True, help="Decide also where somebody else has said something different.")
@options.setting_options(options.SERVICE_IMAGES, *options.KAFKA)
def decide(
    environ: dict[str, str],
    left: str | None,
    right: str | None,
    word: str | None,
    file: Path | None,
    keep: tuple[str, ...],
    note: str,
    who: str | None,
    replace: bool,
) -> None:
    """Say what two images are to each other: duplicate, not-duplicate or later; undo takes it back.

    A and B are paths as the service has them. The decision holds for their present bytes: those of their group or,
    where they are in none, of their files. Nothing is decided where one of several cannot be.
    """
    from cli.decide import ServiceImages, Speaker, decide_from, decide_pair
    from cli.decision_file import WORDS

    speaker = Speaker(who or getpass.getuser(), note, keep, replace)
    service = ServiceImages(environ.get("IMAGES_DIR") or None, settings.IMAGES_PRIVATE.read(environ))
    if file is not None:
        if left is not None or keep:
            raise click.UsageError("--from: the file names the images")
        with connected(environ, "decide") as kafka:
            decide_from(kafka, file, speaker, service)
        return
    if left is None or right is None or word is None:
        raise click.UsageError("two images and a word are needed, or --from FILE")
    if word not in WORDS:
        raise click.UsageError(f"{word!r} is no decision; it is one of duplicate, not-duplicate, later, undo")
    if left == right:
        raise click.UsageError("both images are the same path")
    if keep and (word != "duplicate" or not set(keep) <= {left, right}):
        raise click.UsageError("--keep names one of the two images, with duplicate")
    with connected(environ, "decide") as kafka:
        decide_pair(kafka, left, right, word, speaker, service)
