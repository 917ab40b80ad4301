"""What the alert on a pair says of the quality of its pictures."""

from dataclasses import dataclass
from typing import Final

from imagetools.grouping.relations import Relation
from imagetools.matching.relation import MIN_WHOLE
from schemas.records import Duplicate
from streams.pair_evidence import says_covered


@dataclass(frozen=True, slots=True)
class PairMarks:
    """What an alert says of the quality of its pictures.

    framed   whether something is around the first, and around the second, that the other does not cover
    covered  something covers part of one of them
    """

    framed: tuple[bool, bool]
    covered: bool


PLAIN: Final = PairMarks((False, False), covered=False)


def marks_of(duplicate: Duplicate, relation: Relation) -> PairMarks:
    """Return the marks of the candidate, then of the duplicate."""
    # a picture of which less is covered than of a whole one has something around it
    same = relation is Relation.SAME
    framed = same and duplicate.coverage_candidate < MIN_WHOLE, same and duplicate.coverage_neighbor < MIN_WHOLE
    return PairMarks(framed, says_covered(duplicate.edit))
