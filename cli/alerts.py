"""Alerts for people and programs outside: the JSON contract's shape, and one line of text."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from cli.json_lines import json_line
from imagetools.paths import shown
from schemas.records import Duplicates, to_plain


def as_json(alert: Duplicates) -> dict[str, Any]:
    """The alert with the JSON contract's fields, and its evidence beside them."""
    plain = to_plain(alert)
    return plain | {"time": alert.time.isoformat(timespec="milliseconds")}


def as_line(alert: Duplicates) -> bytes:
    """The alert as one line of JSON."""
    return json_line(as_json(alert))


def as_text(alert: Duplicates, link: Callable[[str, str], str] = lambda one, two: "") -> list[str]:
    """A line for each pair: candidate, what it duplicates, score, and how.

    link  says of two paths how they are one file, in place of the edit; empty where they are not
    """
    lines = []
    for d in alert.duplicated:
        same = link(alert.candidate, d.relative_path)
        names = f"{shown(alert.candidate)}  {'is' if same else 'duplicates'}  {shown(d.relative_path)}"
        lines.append(f"{names}  {d.score:.2f}  {same or d.edit}".rstrip())
    return lines


def local_time(alert: Duplicates) -> str:
    """When the verdict was reached, on this machine's clock."""
    return _clock(alert.time)


def clock(time: str) -> str:
    """A time as ISO 8601 writes it, on this machine's clock."""
    return _clock(datetime.fromisoformat(time))


def _clock(moment: datetime) -> str:
    return moment.astimezone().strftime("%H:%M:%S")
