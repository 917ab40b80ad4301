"""What the alert on a pair says of the quality of its pictures."""

from dataclasses import dataclass
from typing import Final

from imagetools.grouping.records import ImageKey
from imagetools.grouping.relations import Relation
from imagetools.matching.relation import MIN_WHOLE
from schemas.records import Duplicate
from streams.pair_evidence import says_added, says_covered
from streams.standing_decisions import Pair


@dataclass(frozen=True, slots=True)
class PairMarks:
    """What an alert says of the quality of its pictures.

    framed   whether something is around the first, and around the second, that the other does not cover, or was added
             to it
    covered  something covers part of one of them, nobody knows which
    """

    framed: tuple[bool, bool]
    covered: bool


PLAIN: Final = PairMarks((False, False), covered=False)


def marks_of(duplicate: Duplicate, relation: Relation) -> PairMarks:
    """Return the marks of the candidate, then of the duplicate."""
    # a picture of which less is covered than of a whole one has something around it
    same = relation is Relation.SAME
    added = says_added(duplicate.edit)
    candidate = (same and duplicate.coverage_candidate < MIN_WHOLE) or added[0]
    neighbor = (same and duplicate.coverage_neighbor < MIN_WHOLE) or added[1]
    return PairMarks((candidate, neighbor), says_covered(duplicate.edit))


class KnownMarks:
    """The marks of pairs, each in its order; a pair without any takes no memory."""

    def __init__(self) -> None:
        self._marks: dict[Pair, PairMarks] = {}

    def of(self, pair: Pair) -> PairMarks:
        """Return the marks of a pair."""
        return self._marks.get(pair, PLAIN)

    def seen_from(self, one: ImageKey, two: ImageKey) -> PairMarks:
        """Return the marks of two images, the first one's first."""
        if one < two:
            return self.of((one, two))
        found = self.of((two, one))
        return PairMarks(found.framed[::-1], found.covered)

    def put(self, pair: Pair, marks: PairMarks) -> None:
        """Set the marks of a pair."""
        if marks == PLAIN:
            self._marks.pop(pair, None)
        else:
            self._marks[pair] = marks
