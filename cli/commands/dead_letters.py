"""Commands about messages that were set aside: dead-letters list, show and replay."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from cli.commands import options
from cli.commands.clients import connected
from streams.settings import STAGES

Function = TypeVar("Function", bound=Callable[..., Any])

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Since(click.ParamType[datetime]):
    """A moment: so long ago, such as 2h, or a date or time on this machine's clock."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment, with its time zone."""
        if isinstance(value, datetime):
            return value
        try:
            if ago := re.fullmatch(r"(\d{1,9})([smhd])", value):
                return datetime.now().astimezone() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time; one is 30m, 2h, 3d, 2026-11-28 or 2026-11-28T14:00", param, ctx)


class LetterName(click.ParamType[tuple[int, int]]):
    """A letter: its offset in dead-letters or, beyond partition 0, PARTITION:OFFSET."""

    name = "offset"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return partition and offset."""
        found = re.fullmatch(r"(?:([0-9]{1,9}):)?([0-9]{1,18})", str(value))
        if not found:
            self.fail(f"{value!r} is no dead letter; one is its offset, as `dead-letters list` shows it", param, ctx)
        return int(found[1] or 0), int(found[2])


def _filter_options(function: Function) -> Function:
    """Add the options that choose letters."""
    since = "Only those set aside since then: 30m, 2h, 3d, or a date or time such as 2026-11-28."
    for option in (
        click.option("--since", type=Since(), metavar="TIME", help=since),
        click.option("--stage", type=click.Choice([str(one) for one in STAGES]), help="Only those of this stage."),
        click.option("--type", "error_type", metavar="NAME", help="Only this error, such as MissingImage."),
    ):
        function = option(function)
    return function


@click.group("dead-letters")
def dead_letters() -> None:
    """See the messages that stages have set aside, and send them back when the cause is gone."""


@dead_letters.command("list")
@_filter_options
@click.option(
    "--sent-back", type=click.Choice(["yes", "no"]), help="Only those that were, or were not, sent back since."
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each.")
@options.setting_options(*options.KAFKA)
def list_(
    environ: dict[str, str],
    error_type: str | None,
    stage: str | None,
    since: datetime | None,
    sent_back: str | None,
    as_json: bool,
) -> None:
    """List dead letters, the newest last. Each begins with its offset, which names it."""
    from cli.dead_letters import LetterFilter, show_letters

    with connected(environ, "dead-letters list") as kafka:
        was_sent = None if sent_back is None else sent_back == "yes"
        show_letters(kafka, LetterFilter(error_type, stage, since), sent_back=was_sent, as_json=as_json)


@dead_letters.command()
@click.argument("letter", metavar="OFFSET", type=LetterName())
@options.setting_options(*options.KAFKA)
def show(environ: dict[str, str], letter: tuple[int, int]) -> None:
    """Show a dead letter with its headers, key and value."""
    from cli.dead_letters import show_letter

    with connected(environ, "dead-letters show") as kafka:
        show_letter(kafka, letter)


@dead_letters.command()
@click.argument("letters", metavar="[OFFSET]...", nargs=-1, type=LetterName())
@_filter_options
@click.option("--yes", is_flag=True, help="Do not ask before more than one.")
@click.option("--dry-run", is_flag=True, help="Say what would be replayed, and send nothing.")
@options.setting_options(*options.KAFKA)
def replay(
    environ: dict[str, str],
    letters: tuple[tuple[int, int], ...],
    error_type: str | None,
    stage: str | None,
    since: datetime | None,
    yes: bool,
    dry_run: bool,
) -> None:
    """Send dead letters back to the topic that they came from, each once.

    Letters are named, or chosen by the options. Only announcements and candidates can be sent back. For others the
    command says what to do instead.

    Exit codes: 0 replayed, or nothing to replay; 2 something was refused; 130 interrupted.
    """
    from cli.dead_letters import LetterFilter, choose
    from cli.dead_letters import replay as run

    wanted = LetterFilter(error_type, stage, since)
    if bool(letters) == (wanted != LetterFilter()):
        raise click.UsageError("name letters by their offsets, or choose them with --type, --stage and --since")
    with connected(environ, "dead-letters replay") as kafka:
        code = run(kafka, choose(kafka, letters, wanted), dry_run=dry_run, yes=yes)
    raise SystemExit(code)
