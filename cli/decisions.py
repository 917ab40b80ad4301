"""A person's decisions on pairs, from a file, and what they say of the files as they are now."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from cli.file_contents import FileContents
from cli.json_lines import json_line
from imagetools.errors import ImageToolsError
from imagetools.grouping.records import Choice, Decision, ImageKey
from imagetools.paths import shown
from schemas.records import Duplicates

_TOLD: Final = 10
"""Wrong lines that an error names."""

_CONTENT: Final = ("left_content", "right_content")
_NEEDED: Final = ("left", "right", "decision")


class BadDecisions(ImageToolsError):
    """A file of decisions that cannot be used; the message names the lines."""


@dataclass(frozen=True)
class PairDecision:
    """A person's word on two paths.

    contents  SHA-256 of both files in hex when the decision was made; None: not known, it holds for any
    rest      other fields of the line, such as who, when and note
    """

    left: str
    right: str
    choice: Choice
    contents: tuple[str, str] | None = None
    rest: Mapping[str, Any] = field(default_factory=dict)


def read_decisions(file: Path) -> list[PairDecision]:
    """Read decisions: CSV with a header if the file's name ends in .csv, and otherwise a JSON object a line.

    Each has left, right and decision: duplicate, not_duplicate or later. With `contents` (the two SHA-256; in CSV
    left_content and right_content) it holds for these bytes alone. BadDecisions names every line that is wrong.
    """
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise BadDecisions(f"{shown(str(file))}: cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    rows = _csv_rows(text) if file.suffix.lower() == ".csv" else _json_rows(text)
    decisions, wrong = [], []
    for number, row in rows:
        decision = row if isinstance(row, str) else _decision(row)
        if isinstance(decision, str):
            wrong.append(f"line {number}: {decision}")
        else:
            decisions.append(decision)
    if wrong:
        more = [f"and {len(wrong) - _TOLD:,} more lines"] if len(wrong) > _TOLD else []
        raise BadDecisions("\n".join([f"{shown(str(file))}: not used, since", *wrong[:_TOLD], *more]))
    return decisions


class Decided:
    """Decisions, as far as they hold for the files as they are. The last one on a pair counts."""

    def __init__(self, decisions: Iterable[PairDecision], contents: FileContents) -> None:
        self._contents = contents
        self._of_pair: dict[frozenset[str], list[PairDecision]] = {}
        for decision in decisions:
            self._of_pair.setdefault(frozenset((decision.left, decision.right)), []).append(decision)

    def holding(self) -> list[PairDecision]:
        """Return the decision on each pair that holds, with the contents."""
        found = (self._holding(pair) for pair in self._of_pair)
        return [self._with_contents(one) for one in found if one is not None]

    def for_next_run(self) -> list[PairDecision]:
        """Return the decisions that hold, with the contents, and as they were those that wait for a file.

        A decision that a later one replaces, whatever the contents, is left out.
        """
        kept = []
        for pair, decisions in self._of_pair.items():
            holding = self._holding(pair)
            kept += [self._with_contents(one) if one is holding else one for one in _not_replaced(decisions)]
        return kept

    def paths(self) -> set[str]:
        """Return all paths that are decided on."""
        return {path for pair in self._of_pair for path in pair}

    def denied(self, one: str, two: str) -> bool:
        """Return whether a person called the two different, at their present contents."""
        pair = frozenset((one, two))
        decision = self._holding(pair) if pair in self._of_pair else None
        return decision is not None and decision.choice is Choice.NOT_DUPLICATE

    def undecided(self, alert: Duplicates) -> Duplicates:
        """Return the alert without the pairs that a person called different."""
        if not self._of_pair:
            return alert
        left = tuple(d for d in alert.duplicated if not self.denied(alert.candidate, d.relative_path))
        return replace(alert, duplicated=left) if len(left) < len(alert.duplicated) else alert

    def for_grouping(self) -> list[Decision]:
        """Return the decisions that hold."""
        return [
            Decision(ImageKey(one.left, one.contents[0]), ImageKey(one.right, one.contents[1]), one.choice)
            for one in self.holding()
            if one.contents is not None
        ]

    def _with_contents(self, decision: PairDecision) -> PairDecision:
        return replace(decision, contents=(self._contents.of(decision.left), self._contents.of(decision.right)))

    def _holding(self, pair: frozenset[str]) -> PairDecision | None:
        now = {path: self._contents.of(path) for path in pair}
        if "" in now.values():
            return None
        for decision in reversed(self._of_pair[pair]):
            if decision.contents in (None, (now[decision.left], now[decision.right])):
                return decision
        return None


def _not_replaced(decisions: Sequence[PairDecision]) -> list[PairDecision]:
    """Return the decisions on one pair that no later one on the same bytes, or on any bytes, replaces."""
    kept: list[PairDecision] = []
    said: set[frozenset[tuple[str, str]]] = set()
    for decision in reversed(decisions):
        if decision.contents is None:
            kept.append(decision)
            break
        contents = frozenset(zip((decision.left, decision.right), decision.contents, strict=True))
        if contents not in said:
            said.add(contents)
            kept.append(decision)
    return kept[::-1]


def decision_fields(decision: PairDecision) -> dict[str, Any]:
    """Return the decision as `read_decisions` reads it from a line of JSON."""
    contents = {} if decision.contents is None else {"contents": list(decision.contents)}
    return {"left": decision.left, "right": decision.right, "decision": str(decision.choice), **contents} | {
        name: value for name, value in decision.rest.items() if name not in (*_NEEDED, "contents")
    }


_Row = dict[str, Any] | str
"""A line's fields, or what is wrong with it."""


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
    return row if isinstance(row, dict) else "is no JSON object"


def _csv_rows(text: str) -> Iterator[tuple[int, _Row]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        yield from _table_rows(reader)
    except csv.Error as exc:
        yield reader.reader.line_num, f"is no CSV that can be read: {exc}"


def _table_rows(reader: "csv.DictReader[str]") -> Iterator[tuple[int, _Row]]:
    missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
    if missing:
        yield 1, f"is a header without {', '.join(missing)}; it needs {', '.join(_NEEDED)}"
        return
    for row in reader:
        contents = [row.pop(name, None) or None for name in _CONTENT]
        fields: dict[str, Any] = {name: value for name, value in row.items() if name is not None and value}
        yield reader.line_num, fields | ({"contents": contents} if any(contents) else {})


def _decision(row: Mapping[str, Any]) -> PairDecision | str:
    missing = [name for name in _NEEDED if not isinstance(row.get(name), str) or not row[name]]
    if missing:
        return f"has no {' and no '.join(missing)}"
    left, right = row["left"], row["right"]
    if left == right:
        return f"left and right are the same path, {shown(left)}"
    choices = [str(choice) for choice in Choice]
    if row["decision"] not in choices:
        return f"the decision {shown(row['decision'])} is not known; it is one of {', '.join(choices)}"
    contents = row.get("contents")
    if contents is not None and not _are_digests(contents):
        return "contents are the SHA-256 of left and right, each as 64 digits and letters a to f, or are left out"
    rest = {name: value for name, value in row.items() if name not in (*_NEEDED, "contents")}
    return PairDecision(left, right, Choice(row["decision"]), None if contents is None else tuple(contents), rest)


def _are_digests(contents: object) -> bool:
    return isinstance(contents, list) and len(contents) == 2 and all(map(_is_digest, contents))


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None
