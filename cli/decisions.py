"""A person's decisions on pairs, and what they say of the files as they are now."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from cli.file_contents import FileContents
from imagetools.grouping.records import Choice, Decision, ImageKey
from schemas.records import Duplicates

UNDO: Final = "undo"
"""The word that takes back what was said before."""


@dataclass(frozen=True)
class PairDecision:
    """A person's word on two paths.

    choice    None: what was said of them before is taken back
    contents  SHA-256 of both files in hex when the decision was made; None: not known, it holds for any
    keep      which of the two to keep, with duplicate
    when      None: not known
    """

    left: str
    right: str
    choice: Choice | None
    contents: tuple[str, str] | None = None
    keep: tuple[str, ...] = ()
    who: str = ""
    note: str = ""
    when: datetime | None = None


class Decided:
    """Decisions, as far as they hold for the files as they are. The last one on a pair counts."""

    def __init__(self, decisions: Iterable[PairDecision], contents: FileContents) -> None:
        self._contents = contents
        self._of_pair: dict[frozenset[str], list[PairDecision]] = {}
        for decision in decisions:
            said = self._of_pair.setdefault(frozenset((decision.left, decision.right)), [])
            if decision.choice is None:
                said[:] = [one for one in said if not _undoes(decision, one)]
            else:
                said.append(decision)

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
            if one.contents is not None and one.choice is not None
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
        contents = _contents(decision)
        if contents not in said:
            said.add(contents)
            kept.append(decision)
    return kept[::-1]


def _undoes(undo: PairDecision, decision: PairDecision) -> bool:
    """Return whether one takes back the other: it is about the same bytes, or about any."""
    return None in (undo.contents, decision.contents) or _contents(undo) == _contents(decision)


def _contents(decision: PairDecision) -> frozenset[tuple[str, str]]:
    """Return the content of each path, where the contents are known."""
    return frozenset(zip((decision.left, decision.right), decision.contents or (), strict=False))


def decision_fields(decision: PairDecision) -> dict[str, Any]:
    """Return the decision as `read_decisions` reads it from a line of JSON."""
    more = {
        "contents": list(decision.contents or ()),
        "keep": list(decision.keep),
        "who": decision.who,
        "note": decision.note,
        "when": decision.when.isoformat() if decision.when else "",
    }
    word = UNDO if decision.choice is None else str(decision.choice)
    return {"left": decision.left, "right": decision.right, "decision": word} | {
        name: value for name, value in more.items() if value
    }
