"""Pairs of alerts that name no contents, as those of earlier versions, until both images are known."""

from collections.abc import Container
from typing import Final

from schemas.group_records import FactKind, GroupingFact, ImageContent
from schemas.records import Duplicate
from streams.grouping.facts import fact_id
from streams.grouping.pair_comparer import relation_of_duplicate
from streams.grouping.pair_marks import marks_of

OLD_PAIR: Final = "o"
"""Kind in the key of their facts."""


class OldPairs:
    """The facts of such pairs, by key and by path."""

    def __init__(self) -> None:
        self._facts: dict[str, GroupingFact] = {}
        self._of_path: dict[str, set[str]] = {}

    def put(self, fact: GroupingFact) -> None:
        """Keep a pair."""
        self._facts[fact.id] = fact
        for image in fact.images:
            self._of_path.setdefault(image.relative_path, set()).add(fact.id)

    def remove(self, fact_id: str) -> bool:
        """Forget a pair; return whether it was there."""
        fact = self._facts.pop(fact_id, None)
        if fact is None:
            return False
        for path in {image.relative_path for image in fact.images}:
            waiting = self._of_path[path]
            waiting.remove(fact_id)
            if not waiting:
                del self._of_path[path]
        return True

    def known_with(self, path: str, known: Container[str]) -> list[GroupingFact]:
        """Return the pairs of a path whose images are both known."""
        found = (self._facts[fact_id] for fact_id in sorted(self._of_path.get(path, ())))
        return [fact for fact in found if all(image.relative_path in known for image in fact.images)]


def old_pair_fact(candidate: str, other: str, duplicate: Duplicate) -> GroupingFact:
    """Return the fact that an alert without contents named a pair."""
    relation = relation_of_duplicate(duplicate)
    marks = marks_of(duplicate, relation)
    images = ImageContent(candidate, b""), ImageContent(other, b"")
    return GroupingFact(
        fact_id(OLD_PAIR, candidate, other), FactKind.EDGE, images, relation=relation, score=duplicate.score,
        framed=marks.framed, covered=marks.covered,
    )  # fmt: skip
