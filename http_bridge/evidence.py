"""What a verdict saw, as HTTP's answers hold it: duplicates with their evidence, and images that are alike."""

from typing import Annotated

from msgspec import Meta, Struct

from http_bridge.contracts import UnitInterval, clip
from schemas.alert_json import rounded
from schemas.records import Duplicate, Similar

Point = Annotated[list[float], Meta(min_length=4, max_length=4)]
Region = Annotated[list[float], Meta(min_length=8, max_length=8)]


class DuplicateEvidence(Struct):
    """A duplicate, and why it is one.

    points      at most 64 pairs of matching points: x, y in the upload, x, y in this image, each in [0, 1]
    relation    what the upload shows of this image: identical, same, crop, contains, overlap or blank
    recoloured  how far the colours were changed: the median CIE76 colour difference, 0 for unchanged
    regions     at most 64 boxes that show something else: left, top, right, bottom in the upload, then in this image
    """

    relative_path: str
    score: UnitInterval
    inliers: int
    agreement: float
    mirrored: bool
    scale: float
    angle: float
    coverage_candidate: float
    coverage_neighbor: float
    edit: str
    points: list[Point]
    relation: str
    recoloured: float
    regions: list[Region]


class SimilarImage(Struct):
    """An image that is alike and no duplicate.

    relation  template, moved, recoloured or blank
    reason    why it is no duplicate
    """

    relative_path: str
    relation: str
    reason: str
    score: UnitInterval


class SimilarEvidence(SimilarImage):
    """An image that is alike and no duplicate, with what differs.

    regions  at most 16 boxes that show something else: left, top, right, bottom in the upload, then in this image
    """

    regions: list[Region]


def duplicate_evidence(one: Duplicate) -> DuplicateEvidence:
    """Return the answer's form of a duplicate."""
    return DuplicateEvidence(
        one.relative_path,
        clip(one.score),
        one.inliers,
        one.agreement,
        one.mirrored,
        one.scale,
        one.angle,
        one.coverage_candidate,
        one.coverage_neighbor,
        one.edit,
        [list(point) for point in one.points],
        one.relation,
        one.recoloured,
        rounded(one.regions),
    )


def similar_evidence(one: Similar) -> SimilarEvidence:
    """Return the answer's form of a similar image."""
    return SimilarEvidence(one.relative_path, one.relation, one.reason, clip(one.score), rounded(one.regions))
