"""A person's decisions on pairs, read from a file: lines of JSON, or CSV as programs and spreadsheets write it."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cli.cells import from_cell
from cli.decisions import UNDO, PairDecision
from cli.json_lines import json_line
from imagetools.errors import ImageToolsError
from imagetools.grouping.records import Choice
from imagetools.paths import shown

WORDS: Final[Mapping[str, Choice | None]] = {
    "duplicate": Choice.DUPLICATE,
    "not-duplicate": Choice.NOT_DUPLICATE,
    "not_duplicate": Choice.NOT_DUPLICATE,
    "later": Choice.LATER,
    UNDO: None,
}
"""What can be said of a pair; None: what was said before is taken back."""

_TOLD: Final = 10
"""Wrong lines that an error names."""

_CONTENT: Final = ("left_content", "right_content")
_NEEDED: Final = ("left", "right", "decision")
_TEXTS: Final = ("who", "note", "when")
_KNOWN: Final = (*_NEEDED, "keep", *_TEXTS)

_DELIMITERS: Final = (",", ";", "\t")
"""What separates the cells of a table. Spreadsheets write semicolons where the comma is the decimal mark."""


class BadDecisions(ImageToolsError):
    """A file of decisions that cannot be used; the message names the lines."""


class _WrongLine(Exception):
    """A line that holds no decision, and why."""


_Row = dict[str, Any] | str
"""A line's fields, or what is wrong with it."""


def read_decisions(file: Path) -> list[PairDecision]:
    """Read decisions: CSV with a header if the file's name ends in .csv, and otherwise a JSON object a line.

    Each has left, right and decision: duplicate, not_duplicate (or not-duplicate), later or undo. With `contents` (the
    two SHA-256; in CSV left_content and right_content) it holds for these bytes alone. `keep` goes with duplicate and
    names the image to keep; JSON may list both. `who`, `note` and `when`, a time in ISO 8601, may be there, too.

    CSV may be separated by commas, semicolons or tabs. An apostrophe before a cell that a spreadsheet would take for a
    formula, as groups.csv writes it, is no part of the path.

    BadDecisions names every line that is wrong, and each column or key that is not known.
    """
    try:
        text = file.read_text("utf-8-sig")
    except OSError as exc:
        raise BadDecisions(f"{shown(str(file))}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise BadDecisions(f"{shown(str(file))}: cannot be read, since it is not UTF-8: {exc.reason}") from exc
    rows = _csv_rows(text) if file.suffix.lower() == ".csv" else _json_rows(text)
    decisions, wrong = [], []
    for number, row in rows:
        try:
            decisions.append(_decision(row))
        except _WrongLine as exc:
            wrong.append(f"line {number}: {exc}")
    if wrong:
        more = [f"and {len(wrong) - _TOLD:,} more lines"] if len(wrong) > _TOLD else []
        raise BadDecisions("\n".join([f"{shown(str(file))}: not used, since", *wrong[:_TOLD], *more]))
    return decisions


def _json_rows(text: str) -> Iterator[tuple[int, _Row]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        yield number, _json_row(line)


def _json_row(line: str) -> _Row:
    try:
        row = json.loads(line)
        # what cannot be written again would end the run at its report
        json_line(row)
    except UnicodeEncodeError:
        return "has half of a surrogate pair, such as \\ud800, which is no character"
    except RecursionError:
        return "is nested too deeply"
    except ValueError as exc:
        return f"is no JSON: {exc}"
    return (_unknown(row, (*_KNOWN, "contents"), "key") or row) if isinstance(row, dict) else "is no JSON object"


def _csv_rows(text: str) -> Iterator[tuple[int, _Row]]:
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=header.count))
    try:
        yield from _table_rows(reader)
    except csv.Error as exc:
        yield reader.reader.line_num, f"is no CSV that can be read: {exc}"


def _table_rows(reader: "csv.DictReader[str]") -> Iterator[tuple[int, _Row]]:
    names = reader.fieldnames or ()
    if missing := [name for name in _NEEDED if name not in names]:
        yield 1, f"is a header without {', '.join(missing)}; it names columns, separated by commas, semicolons or tabs"
        return
    if unknown := _unknown(filter(None, names), (*_KNOWN, *_CONTENT), "column"):
        yield 1, unknown
        return
    for row in reader:
        # cells beyond the header have the name None, and those below an empty name the empty one
        nameless = any(row.pop(None, None) or ()) or bool(row.pop("", None))
        contents = [row.pop(name, None) or None for name in _CONTENT]
        fields: dict[str, Any] = {name: from_cell(value) for name, value in row.items() if value}
        fields |= {"contents": contents} if any(contents) else {}
        yield reader.line_num, "has a cell in a column without a name" if nameless else fields


def _unknown(names: Iterator[str] | dict[str, Any], known: tuple[str, ...], kind: str) -> str:
    """Return which names are not known; empty if all are."""
    wrong = [shown(name) for name in names if name not in known]
    if not wrong:
        return ""
    what = f"the {kind} {wrong[0]}, which is" if len(wrong) == 1 else f"the {kind}s {', '.join(wrong)}, which are"
    return f"has {what} not known; known are {', '.join(known)}"


def _decision(row: _Row) -> PairDecision:
    """Return what a line says. _WrongLine."""
    if isinstance(row, str):
        raise _WrongLine(row)
    missing = [name for name in _NEEDED if not isinstance(row.get(name), str) or not row[name]]
    if missing:
        raise _WrongLine(f"has no {' and no '.join(missing)}")
    left, right = row["left"], row["right"]
    if left == right:
        raise _WrongLine(f"left and right are the same path, {shown(left)}")
    if row["decision"] not in WORDS:
        words = ", ".join((*map(str, Choice), UNDO))
        raise _WrongLine(f"the decision {shown(row['decision'])} is not known; it is one of {words}")
    choice = WORDS[row["decision"]]
    contents = row.get("contents")
    if contents is not None and not _are_digests(contents):
        raise _WrongLine(
            "contents are the SHA-256 of left and right, each as 64 digits and letters a to f, or are left out"
        )
    for name in _TEXTS:
        if not isinstance(row.get(name, ""), str):
            raise _WrongLine(f"{name} is no text")
    return PairDecision(
        left,
        right,
        choice,
        None if contents is None else (contents[0], contents[1]),
        _keep(row.get("keep", []), (left, right), choice),
        row.get("who", ""),
        row.get("note", ""),
        _moment(row["when"]) if row.get("when") else None,
    )


def _keep(given: object, paths: tuple[str, str], choice: Choice | None) -> tuple[str, ...]:
    keep = [given] if isinstance(given, str) else given
    if not isinstance(keep, list) or not all(one in paths for one in keep):
        raise _WrongLine("keep names left or right, by its path")
    if keep and choice is not Choice.DUPLICATE:
        raise _WrongLine("keep goes with duplicate alone")
    return tuple(dict.fromkeys(keep))


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as exc:
        raise _WrongLine(f"when is no time such as 2026-01-31T12:00:00+00:00: {shown(text)}") from exc


def _are_digests(contents: object) -> bool:
    return isinstance(contents, list) and len(contents) == 2 and all(map(_is_digest, contents))


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None
