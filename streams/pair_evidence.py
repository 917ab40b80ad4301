"""A verified pair as the records hold it: a duplicate with its evidence, or an image that is alike and no duplicate."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from imagetools.errors import ImageError
from imagetools.grouping.records import Choice, ImageKey
from imagetools.matching.relation import Relation
from imagetools.matching.relation_words import why_no_duplicate
from imagetools.matching.verify import Verification
from imagetools.paths import shown
from schemas.records import Candidates, Duplicate, Similar
from streams.standing_decisions import StandingDecisions

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
    # whoever reads a record shows first frames: what lies on a later one is no part of them
    on_first = not any(found.frames)
    regions = tuple((*ours, *theirs) for ours, theirs in found.regions) if on_first else ()
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
        found.points if on_first else (),
        found.relation,
        found.recoloured,
        regions,
    )


def says_covered(edit: str) -> bool:
    """Return whether the description of an edit says that something covers part of one picture, but not of which."""
    return not any(says_added(edit)) and ("partly covered" in edit or "addition" in edit)


def says_added(edit: str) -> tuple[bool, bool]:
    """Return whether the description of an edit says that something was added to the candidate, and to the neighbor."""
    return "something added" in edit, "something removed" in edit


def duplicates_among(found: Iterable[object]) -> tuple[Duplicate, ...]:
    """Return the duplicates, the best score first."""
    return tuple(sorted((one for one in found if isinstance(one, Duplicate)), key=lambda one: -one.score))


def paths_to_compare(records: Iterable[Candidates]) -> list[str]:
    """Return every image whose features are needed, once. Identical files are duplicates without features."""
    paths: dict[str, None] = {}
    for record in records:
        neighbors = [n.relative_path for n in record.neighbors if not n.identical]
        if neighbors:
            paths |= dict.fromkeys([record.candidate, *neighbors])
    return list(paths)


def with_contents(record: Candidates, duplicates: Iterable[Duplicate]) -> tuple[Duplicate, ...]:
    """Return the duplicates with the bytes that search found them at."""
    contents = {neighbor.relative_path: neighbor.content for neighbor in record.neighbors}
    return tuple(replace(one, content=contents[one.relative_path]) for one in duplicates)


def not_denied(
    record: Candidates, duplicates: Iterable[Duplicate], decisions: StandingDecisions
) -> tuple[Duplicate, ...]:
    """Return the duplicates without those that a person called none, at these bytes."""
    if not len(decisions):
        return tuple(duplicates)
    candidate = ImageKey(record.candidate, record.content.hex())
    words = ((one, decisions.word(candidate, ImageKey(one.relative_path, one.content.hex()))) for one in duplicates)
    return tuple(one for one, word in words if word is not Choice.NOT_DUPLICATE)


def left_out(errors: Iterable[ImageError], denied: Iterable[str]) -> str:
    """Say which neighbors a verdict leaves out: those that cannot be read, and those that a person called different."""
    unread = [f"neighbor left out: {error}" for error in errors]
    return "; ".join([*unread, *(f"no duplicate, as a person decided: {shown(path)}" for path in denied)])


def similar_among(found: Iterable[object]) -> tuple[Similar, ...]:
    """Return the similar images with the best scores, best first."""
    similar = sorted((one for one in found if isinstance(one, Similar)), key=lambda one: -one.score)
    return tuple(similar[:MAX_SIMILAR])
