"""Commands that do one job and end: find, demo, compare."""

from pathlib import Path

import click

from cli.commands import options


@click.command()
@click.argument("place", metavar="FOLDER|STORE", type=options.ImagesPlace())
@click.option("--report", type=options.OutputPath(file_okay=False), help="Write a report into this folder.")
@click.option(
    "--broker", metavar="HOST:PORT", help="Use this Kafka, with topics of its own that are removed at the end."
)
@click.option("--encoders", default=1, show_default=True, type=click.IntRange(1), help="Number of encoder processes.")
@options.matchers
@click.option(
    "--decisions",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Decisions of an earlier run: lines of JSON, or CSV, with left, right and decision (duplicate, "
    "not_duplicate, later or undo). A pair that is not_duplicate is not reported, until one of its files changes.",
)
@options.setting_options(*options.MODEL, *options.SEARCH, *options.MATCHER, *options.GROUPING, *options.JOB_FEATURES)
def find(
    environ: dict[str, str],
    place: Path | str,
    report: Path | None,
    broker: str | None,
    encoders: int,
    matchers: int,
    decisions: Path | None,
) -> None:
    """Find all duplicates among the images in FOLDER, or in a STORE such as s3://bucket/prefix.

    Starts a Kafka of its own, runs the whole pipeline on it, prints each alert as it arrives, and stops everything
    when every image has its verdict. The report folder then holds report.html (groups of duplicates, which of each to
    keep and why, pairs side by side; open it in a browser), and for programs groups.jsonl, groups.csv, extras.txt (the
    paths of all but the ones to keep, of groups without a doubtful edge), decisions.jsonl (for the next run's
    --decisions), alerts.jsonl, similar.jsonl, dead-letters.jsonl, not-looked-at.jsonl and summary.json. groups.jsonl
    also has images that are only linked to a group, each as a group of one. In groups.csv, a path that a spreadsheet
    would take for a formula, such as =1.jpg, begins with an apostrophe. No file is deleted.

    Ctrl-C ends the job early: the report then holds the results so far and says that it is partial.
    """
    from cli.find import find as run

    run(
        place,
        report,
        bootstrap=broker,
        environ=environ,
        encoders=encoders,
        matchers=matchers,
        decisions=decisions,
    )


@click.command()
@click.option(
    "--folder",
    default=Path("demo"),
    show_default=True,
    type=options.OutputPath(),
    help="The folder for images and report.",
)
def demo(folder: Path) -> None:
    """Plant edited copies among sample photos, run the whole pipeline, and score what it finds.

    Writes the images, the report and the list of planted copies into the folder.
    """
    from cli.demo import run

    run(folder)


@click.command()
@click.argument("a", type=options.ImagesPlace(file_okay=True, dir_okay=False))
@click.argument("b", type=options.ImagesPlace(file_okay=True, dir_okay=False))
@click.option("--picture", type=options.OutputPath(dir_okay=False), help="Draw the pair and its matching points here.")
@options.setting_options(*options.MATCHER)
def compare(environ: dict[str, str], a: Path | str, b: Path | str, picture: Path | None) -> None:
    """Decide whether images A and B show the same picture, and say why. Needs no Kafka.

    Each is a file, or an address in a store, such as s3://bucket/prefix/a.jpg.
    """
    from cli.compare import compare as run
    from streams.config import Config

    config = Config.from_env(environ)
    run(a, b, picture, config.matcher, private=config.images_private)
