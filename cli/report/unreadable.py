"""The images that could not be read, for the console and the report."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imagetools.paths import printable, shown

NAMED: Final = 5
"""Images that the console names; the report lists more, and dead-letters.jsonl all."""


@dataclass(frozen=True)
class Unreadable:
    """One image, and why it could not be read."""

    path: str
    reason: str


def unreadable(letters: Iterable[Mapping[str, str]]) -> list[Unreadable]:
    """Return the images that dead letters tell of, by path."""
    found = {one["relative_path"]: _reason(one) for one in letters}
    return [Unreadable(path, reason) for path, reason in sorted(found.items())]


def as_lines(images: Sequence[Unreadable], report: Path | None) -> list[str]:
    """Return a line for each of the first images, and one that says where the others are.

    report  the report's folder, if there is a report
    """
    lines = [f"could not be read: {shown(one.path)}: {printable(one.reason)}" for one in images[:NAMED]]
    if rest := len(images[NAMED:]):
        where = "--report FOLDER lists them" if report is None else f"{shown(str(report / 'report.html'))} lists them"
        lines.append(f"could not be read: {rest:,} more; {where}")
    return lines


def _reason(letter: Mapping[str, str]) -> str:
    """Return the reason of a dead letter without the path, which its message begins with."""
    return letter["error_message"].removeprefix(f"{shown(letter['relative_path'])}: ")
