"""Alerts as lines: of JSON for programs, of text for people."""

from collections.abc import Callable, Mapping
from datetime import datetime

from cli.json_lines import json_line
from imagetools.paths import printable, shown
from schemas.alert_json import alert_fields
from schemas.records import Duplicates


def as_line(alert: Duplicates, headers: Mapping[str, str]) -> bytes:
    """Return the alert, and the headers of its announcement, as one line of JSON."""
    return json_line(alert_fields(alert) | {"headers": headers})


def as_text(alert: Duplicates, link: Callable[[str, str], str] = lambda one, two: "") -> list[str]:
    """Return a line for each pair: candidate, what it duplicates, score, the edit, and the candidate's metadata.

    link  describes how two paths are one file, which is shown instead of the edit; empty if they are two files
    """
    lines = []
    for d in alert.duplicated:
        same = link(alert.candidate, d.relative_path)
        names = f"{shown(alert.candidate)}  {'is' if same else 'duplicates'}  {shown(d.relative_path)}"
        said = (names, f"{d.score:.2f}", same or d.edit, metadata_text(alert.metadata))
        lines.append("  ".join(filter(None, said)))
    return lines


def metadata_text(metadata: Mapping[str, str]) -> str:
    """Return names and values in one line."""
    return printable(", ".join(f"{name}={value}" for name, value in metadata.items()))


def local_time(alert: Duplicates) -> str:
    """Return the time of the verdict on this machine's clock."""
    return clock_at(alert.time)


def clock(time: str) -> str:
    """Convert an ISO 8601 time to this machine's clock."""
    return clock_at(datetime.fromisoformat(time))


def clock_at(moment: datetime) -> str:
    """Return a time on this machine's clock."""
    return moment.astimezone().strftime("%H:%M:%S")
