"""Logs of processes: the reason why one ended, and a copy that outlasts it."""

import json
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_log_path

MAX_COPIES = 20
"""Number of copies to keep; older ones are removed."""

READ_BYTES = 256 * 1024
"""Bytes at a log's end to look for the reason in."""

TRACEBACK = "Traceback (most recent call last):"
STAMP = re.compile(r"^\S+[ T]\d\d:\d\d:\d\d[,.]\d+ (?P<level>[A-Z]+) ")
"""Beginning of a line in a stage's log."""

JSON_START = '{"time": "'
"""Beginning of a line in a stage's log in JSON (imagetools.logs.JsonLine)."""

JAVA_STAMP = re.compile(r"^Exception in thread \S+ |^Caused by: ")

JAVA_ERROR = re.compile(r"\b(ERROR|FATAL)\b|^(Caused by: |Exception in thread \S+ )?[\w.$]+(Exception|Error)\b")


def exit_reason(log: Path, since: int = 0) -> str:
    """Return the line that says why a process ended: the last traceback's exception, else the last error or line.

    since  bytes of the log that an earlier process wrote
    """
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(since, end - READ_BYTES))
            text = [line.rstrip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError as exc:
        return f"its log cannot be read: {exc.strerror}"
    if not text:
        return "it wrote no log"
    lines = [one for line in text for one in _as_text(line)]
    found = _raised(lines) or _error(lines) or lines[-1]
    return JAVA_STAMP.sub("", STAMP.sub("", found)).removeprefix("Error: ").strip()


def keep_copy(log: Path) -> Path:
    """Copy a log to the user's folder of logs; return the copy, or the log itself if nothing can be written."""
    for folder in (user_log_path("imagetools"), Path(tempfile.gettempdir()) / "imagetools-logs"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            copy = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{log.name}"
            shutil.copyfile(log, copy)
            _forget_oldest(folder)
        except OSError:
            continue
        return copy
    return log


def save_log(text: str, name: str) -> Path | None:
    """Write a text to the user's folder of logs; return the file, or None if nothing can be written."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / name
        try:
            log.write_text(text, "utf-8")
        except OSError:
            return None
        copy = keep_copy(log)
        return None if copy == log else copy


def _as_text(line: str) -> list[str]:
    """Return the lines of text that a log record in JSON stands for; any other line as it is."""
    if not line.startswith(JSON_START):
        return [line]
    try:
        record = json.loads(line)
    except ValueError:
        # the first line that was read may begin in the middle, and the last one may be cut
        return [line]
    # without the time zone, as in a log in text
    return [f"{record['time'][:23]} {record['level']} {record['message']}", *record.get("exception", "").splitlines()]


def _raised(lines: Sequence[str]) -> str:
    """Return the exception of the last traceback: the first line after it that is not indented."""
    found, inside = "", False
    for line in lines:
        if line == TRACEBACK:
            inside = True
        elif inside and not line.startswith(" "):
            found, inside = line, False
    return found


def _error(lines: Sequence[str]) -> str:
    """Return the last line that a stage or a Java program marks as an error."""
    for line in reversed(lines):
        stamped = STAMP.match(line)
        if stamped and stamped["level"] in ("ERROR", "CRITICAL"):
            return line
        if not stamped and (line.startswith("Error: ") or JAVA_ERROR.search(line)):
            return line
    return ""


def _forget_oldest(folder: Path) -> None:
    for old in sorted(folder.glob("*.log"))[:-MAX_COPIES]:
        old.unlink(missing_ok=True)
