"""`imagetools dead-letters`: list what was set aside, show one letter, and send letters back."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import click

from cli.json_lines import json_line
from cli.standard_error import say
from imagetools.errors import MessageError
from imagetools.paths import printable, shown
from schemas.codec import codec
from schemas.records import to_plain
from streams.config import KafkaConfig
from streams.exit_codes import EXIT_REFUSED
from streams.kafka.replay import (
    DeadLetter,
    LetterPlace,
    Replayer,
    letters_at,
    not_replayed,
    origin_of,
    read_letters,
    reason_to_refuse,
)

FIRST_BYTES: Final = 64
"""How many bytes of a value to show in hex, where the codec cannot read it."""

MAX_REFUSALS: Final = 5
"""Refused letters that are named; the rest are counted."""


@dataclass(frozen=True)
class LetterFilter:
    """Which letters; a field that is None leaves nothing out.

    error_type  such as MissingImage
    stage       that set them aside
    since       when they were set aside, at the earliest
    """

    error_type: str | None = None
    stage: str | None = None
    since: datetime | None = None

    def __contains__(self, letter: DeadLetter) -> bool:
        """Whether the letter is one of them."""
        return (
            self.error_type in (None, letter.fields["error_type"])
            and self.stage in (None, letter.fields["stage"])
            and (self.since is None or _time(letter) >= self.since)
        )


def show_letters(kafka: KafkaConfig, wanted: LetterFilter, *, sent_back: bool | None, as_json: bool) -> None:
    """Print a line for each letter, the newest last; for people, also how many there are of each type.

    sent_back  only those that were, or were not, sent back since; None: both
    """
    of_all: Counter[str] = Counter()
    of_shown: Counter[str] = Counter()
    chosen, sendable = list[DeadLetter](), list[DeadLetter]()
    for letter in read_letters(kafka):
        of_all[letter.fields["error_type"]] += 1
        if letter not in wanted:
            continue
        # without its value, of which all letters together may be large
        chosen.append(replace(letter, value=None))
        if reason_to_refuse(kafka, letter) is None:
            sendable.append(chosen[-1])
    left = {letter.name for letter in not_replayed(kafka, sendable)} if sendable else set()
    sent = {letter.name for letter in sendable} - left
    for letter in chosen:
        was_sent = letter.name in sent
        if sent_back not in (None, was_sent):
            continue
        of_shown[letter.fields["error_type"]] += 1
        if as_json:
            fields = {"name": letter.name, **letter.fields, "replayed": letter.replays, "sent_back": was_sent}
            sys.stdout.buffer.write(json_line(fields))
        else:
            click.echo(in_words(letter) + (" (sent back since)" if was_sent else ""))
    if not as_json:
        click.echo(_summary(of_shown, of_all))


def _summary(shown_types: Counter[str], all_types: Counter[str]) -> str:
    if shown_types:
        return f"{_count(shown_types.total())}: {_by_type(shown_types)}"
    return f"no such dead letters; there are {_by_type(all_types)}" if all_types else "no dead letters"


def _by_type(types: Counter[str]) -> str:
    return ", ".join(f"{count:,} {printable(name) or 'without a type'}" for name, count in types.most_common())


def show_letter(kafka: KafkaConfig, place: LetterPlace) -> None:
    """Print a letter with all its headers and its value. NoSuchLetter, RegistryAway."""
    (letter,) = letters_at(kafka, [place])
    click.echo(in_words(letter))
    for name, content in letter.headers:
        click.echo(f"header {printable(name)}: {printable((content or b'').decode('utf-8', 'replace'))}")
    click.echo(f"key: {'none' if letter.key is None else printable(letter.key.decode('utf-8', 'backslashreplace'))}")
    click.echo(f"value: {_describe_value(kafka, letter)}")


def choose(kafka: KafkaConfig, places: Sequence[LetterPlace], wanted: LetterFilter) -> list[DeadLetter]:
    """Return the letters at these places or, without any, those that the filter wants. NoSuchLetter."""
    if places:
        return letters_at(kafka, places)
    return [letter for letter in read_letters(kafka) if letter in wanted]


def replay(kafka: KafkaConfig, letters: Sequence[DeadLetter], *, dry_run: bool, yes: bool) -> int:
    """Send letters back, each once; return the exit code.

    dry_run  say what would be sent
    yes      ask nobody
    """
    reasons = [(letter, reason_to_refuse(kafka, letter)) for letter in letters]
    refused = [(letter, reason) for letter, reason in reasons if reason]
    for letter, reason in refused[:MAX_REFUSALS]:
        say(f"not replayed: {letter.name}: {printable(reason)}")
    if len(refused) > MAX_REFUSALS:
        say(f"not replayed: {len(refused) - MAX_REFUSALS:,} more")
    code = EXIT_REFUSED if refused else 0
    sendable = [letter for letter, reason in reasons if not reason]
    if not sendable:
        say("nothing to replay")
        return code
    if dry_run:
        left = _not_replayed(kafka, sendable)
        for letter in left:
            click.echo(in_words(letter))
        say(f"{_count(len(left))} would be replayed")
        return code
    # before the look at what was replayed: no other replay can then come between
    with closing(Replayer(kafka)) as replayer:
        left = _not_replayed(kafka, sendable)
        if left and (len(left) == 1 or yes or _agreed(f"replay {_count(len(left))}?")):
            _send(replayer, left)
    return code


def in_words(letter: DeadLetter) -> str:
    """Describe a letter in one line."""
    said = letter.fields
    when = _time(letter).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    origin = f"{said['topic']} partition {said['partition']} offset {said['offset']}" if said["topic"] else "nowhere"
    replays = {0: "", 1: ", replayed once"}.get(letter.replays, f", replayed {letter.replays:,} times")
    why = f"{said['error_type']}: {said['error_message']}"
    parts = (letter.name, when, said["stage"], shown(said["relative_path"]), why, f"(from {origin}{replays})")
    return printable("  ".join(parts))


def _not_replayed(kafka: KafkaConfig, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    left = not_replayed(kafka, letters)
    if len(left) < len(letters):
        say(f"{_count(len(letters) - len(left))} not sent again: replayed before")
    return left


def _send(replayer: Replayer, letters: Sequence[DeadLetter]) -> None:
    sent = 0
    try:
        for count in replayer.send(letters):
            sent = count
    finally:
        say(f"{_count(sent)} replayed" if sent == len(letters) else f"{sent:,} of {_count(len(letters))} replayed")


def _agreed(question: str) -> bool:
    click.echo(f"{question} [y/N] ", err=True, nl=False)
    answer = sys.stdin.readline()
    if not answer:
        raise click.UsageError("nobody answered; --yes replays without asking")
    if answer.strip().lower() in ("y", "yes"):
        return True
    say("nothing was replayed")
    return False


def _describe_value(kafka: KafkaConfig, letter: DeadLetter) -> str:
    """Return a value as JSON; where the codec cannot read it, its size and first bytes."""
    if letter.value is None:
        return "none"
    origin = origin_of(kafka, letter)
    reason = "its topic is not known"
    if origin is not None and origin.kind is not None:
        try:
            record = codec(kafka.registry).decode(letter.fields["topic"], origin.kind, letter.value)
            return json_line({origin.kind.__name__: _readable(to_plain(record))}).decode().rstrip()
        except MessageError as exc:
            reason = printable(str(exc))
    first = letter.value[:FIRST_BYTES].hex(" ")
    return f"{len(letter.value):,} bytes, {'first ' if len(letter.value) > FIRST_BYTES else ''}{first} ({reason})"


def _readable(plain: Any) -> Any:
    """Return plain data with bytes in hex."""
    if isinstance(plain, bytes):
        return plain.hex()
    if isinstance(plain, Mapping):
        return {name: _readable(value) for name, value in plain.items()}
    return [_readable(value) for value in plain] if isinstance(plain, (list, tuple)) else plain


def _time(letter: DeadLetter) -> datetime:
    return datetime.fromisoformat(letter.fields["time"])


def _count(count: int) -> str:
    return f"{count:,} dead {'letter' if count == 1 else 'letters'}"
