"""Alerts for people and programs outside: the JSON contract's shape, and one line of text."""

from datetime import datetime
from typing import Any

import msgspec

from schemas.records import Duplicates, to_plain


def as_json(alert: Duplicates) -> dict[str, Any]:
    """The alert with the JSON contract's fields, and its evidence beside them."""
    plain = to_plain(alert)
    return plain | {"time": alert.time.isoformat(timespec="milliseconds")}


def as_line(alert: Duplicates) -> bytes:
    """The alert as one line of JSON."""
    return msgspec.json.encode(as_json(alert)) + b"\n"


def as_text(alert: Duplicates) -> list[str]:
    """A line for each pair: candidate, score, what it duplicates, and how."""
    return [
        f"{alert.candidate}  duplicates  {d.relative_path}  {d.score:.2f}  {d.edit}".rstrip() for d in alert.duplicated
    ]


def local_time(alert: Duplicates) -> str:
    """When the verdict was reached, on this machine's clock."""
    return _clock(alert.time)


def clock(time: str) -> str:
    """A time as ISO 8601 writes it, on this machine's clock."""
    return _clock(datetime.fromisoformat(time))


def _clock(moment: datetime) -> str:
    return moment.astimezone().strftime("%H:%M:%S")
