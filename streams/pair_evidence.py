"""A verified pair as the records hold it: a duplicate with its evidence, or an image that is alike and no duplicate."""

from collections.abc import Iterable
from typing import Final

from imagetools.matching.relation import Relation
from imagetools.matching.relation_words import why_no_duplicate
from imagetools.matching.verify import Verification
from schemas.records import Duplicate, Similar

ALIKE: Final[frozenset[Relation]] = frozenset({"template", "moved", "recoloured", "blank"})
"""Relations of pairs that are alike and no duplicates."""

MAX_SIMILAR: Final = 16
"""Similar images of one verdict or reply, as the schemas promise: a collection may hold thousands of one form."""

MAX_SIMILAR_REGIONS: Final = 16
"""Regions of each, the largest: enough to outline the fields of a form, in half a kilobyte."""


def identical(path: str) -> Duplicate:
    """Return the duplicate of a file with the same bytes."""
    return Duplicate(
        path,
        1.0,
        0,
        1.0,
        coverage_candidate=1.0,
        coverage_neighbor=1.0,
        edit="the same file",
        relation="identical",
    )


def evidence_of(path: str, found: Verification) -> Duplicate | Similar | None:
    """Return what a pair's verdict puts on record; None for pictures that have nothing to do with each other."""
    regions = tuple((*ours, *theirs) for ours, theirs in found.regions)
    if not found.duplicate:
        if found.relation not in ALIKE:
            return None
        return Similar(path, found.relation, why_no_duplicate(found), found.score, regions[:MAX_SIMILAR_REGIONS])
    return Duplicate(
        path,
        found.score,
        found.inliers,
        found.agreement,
        found.mirrored,
        found.scale,
        found.angle,
        found.coverage_candidate,
        found.coverage_neighbor,
        found.edit,
        found.points,
        found.relation,
        found.recoloured,
        regions,
    )


def duplicates_among(found: Iterable[object]) -> tuple[Duplicate, ...]:
    """Return the duplicates, the best score first."""
    return tuple(sorted((one for one in found if isinstance(one, Duplicate)), key=lambda one: -one.score))


def similar_among(found: Iterable[object]) -> tuple[Similar, ...]:
    """Return the similar images with the best scores, best first."""
    similar = sorted((one for one in found if isinstance(one, Similar)), key=lambda one: -one.score)
    return tuple(similar[:MAX_SIMILAR])
