"""How far two images agree where a map lays one over the other.

Matching keypoints only say that something is shared: a floor, a logo, an app around the picture. Here every textured
spot of the overlap is asked, by its local correlation, whether it shows the same on both sides.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imagetools.geometry import Map, compose, determinant, inverse

Grey = NDArray[np.uint8]
Plane = NDArray[np.float32]

# The overlap is compared at this many pixels on its longer side, or fewer where an image has fewer
WORKING_SIDE: Final = 96
_WINDOW: Final = (7, 7)
# Standard deviation, in grey levels, from which a window counts as textured
_TEXTURE: Final = 4.0
_NOISE: Final = np.float32(2.0)
_AGREES: Final = 0.6


@dataclass(frozen=True)
class Agreement:
    """What the overlap says.

    share       of the textured windows, those whose local correlation is above .6
    strict      the same above .85
    mean        mean local correlation of the textured windows
    hole        largest connected region of textured disagreement, as a share of the overlap
    textured    share of the overlap that is textured
    correlation of the whole overlap
    side        longer side of the overlap, in pixels of the comparison
    """

    share: float
    strict: float
    mean: float
    hole: float
    textured: float
    correlation: float
    side: float


NOTHING: Final = Agreement(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


def compare(affine: Map, source: tuple[Grey, ...], target: tuple[Grey, ...]) -> Agreement:
    """Lay the source over the target by the map, and compare them.

    source, target  pyramids of grey images, each half the one before; the map is between their first levels
    """
    if abs(determinant(affine)) > 1:
        # where the map enlarges, the way back shrinks: never compare detail that one side cannot have
        return compare(inverse(affine), target, source)
    height, width = target[0].shape
    box = _overlap_box(affine, source[0].shape, (height, width))
    if box is None:
        return NOTHING
    left, top, right, bottom = box
    scale = min(1.0, WORKING_SIDE / max(right - left, bottom - top))
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    into_box = np.array([[size[0] / (right - left), 0, 0.0], [0, size[1] / (bottom - top), 0.0]])
    into_box[:, 2] = into_box[:, :2] @ [0.5 - left, 0.5 - top] - 0.5
    there, _ = _warped(target, into_box, size)
    here, valid = _warped(source, compose(into_box, affine), size)
    return _agreement(here, there, valid)


def _overlap_box(
    affine: Map, source: tuple[int, ...], target: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    height, width = source
    corners = np.array([[-0.5, -0.5], [width - 0.5, -0.5], [width - 0.5, height - 0.5], [-0.5, height - 0.5]])
    mapped = corners @ affine[:, :2].T + affine[:, 2]
    left, top = np.maximum(mapped.min(axis=0) + 0.5, 0)
    right, bottom = np.minimum(mapped.max(axis=0) + 0.5, (target[1], target[0]))
    return (float(left), float(top), float(right), float(bottom)) if right - left >= 2 and bottom - top >= 2 else None


def _warped(pyramid: tuple[Grey, ...], affine: Map, size: tuple[int, int]) -> tuple[Plane, Plane]:
    """Return the warped image, and 1 where it comes from inside the source; smoothed by choice of the level."""
    level = 0
    shrink = float(np.linalg.norm(affine[:, :2], axis=1).min())
    while level + 1 < len(pyramid) and shrink <= 0.6:
        level, shrink = level + 1, shrink * 2
    grey = pyramid[level]
    # a level may be one pixel less than half, so its own map comes from its own size
    across = np.array([pyramid[0].shape[1] / grey.shape[1], pyramid[0].shape[0] / grey.shape[0]])
    from_level = np.column_stack([np.diag(across), across / 2 - 0.5])
    whole = compose(affine, from_level)
    flags = cv2.INTER_LINEAR
    warped = cv2.warpAffine(grey, whole, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.full_like(grey, 255), whole, size, flags=cv2.INTER_NEAREST, borderValue=0)
    return warped.astype(np.float32), (inside > 0).astype(np.float32)


def _mean(plane: Plane) -> Plane:
    return np.asarray(cv2.boxFilter(plane, -1, _WINDOW, borderType=cv2.BORDER_CONSTANT), dtype=np.float32)


def _agreement(here: Plane, there: Plane, valid: Plane) -> Agreement:
    weight = _mean(valid)
    # a window that is mostly outside says little
    inside = (weight > 0.5) & (valid > 0)
    area = int(inside.sum())
    if area < 16:
        return NOTHING
    weight = np.maximum(weight, np.float32(1e-3))
    here, there = (here - here.mean()) * valid, (there - there.mean()) * valid
    mean_here, mean_there = _mean(here) / weight, _mean(there) / weight
    spread_here = np.maximum(_mean(here * here) / weight - mean_here * mean_here, 0)
    spread_there = np.maximum(_mean(there * there) / weight - mean_there * mean_there, 0)
    common = _mean(here * there) / weight - mean_here * mean_there
    local = common / np.sqrt((spread_here + _NOISE) * (spread_there + _NOISE))
    textured = (np.maximum(spread_here, spread_there) > _TEXTURE**2) & inside
    count = int(textured.sum())
    whole = float(np.corrcoef(here[inside], there[inside])[0, 1]) if _varies(here[inside], there[inside]) else 0.0
    side = float(max(here.shape))
    if not count:
        return Agreement(0.0, 0.0, 0.0, 0.0, 0.0, whole, side)
    values = local[textured]
    return Agreement(
        share=float((values > _AGREES).mean()),
        strict=float((values > 0.85).mean()),
        mean=float(values.mean()),
        hole=_largest_region(textured & (local < _AGREES)) / area,
        textured=count / area,
        correlation=whole,
        side=side,
    )


def _varies(here: Plane, there: Plane) -> bool:
    return min(float(here.std()), float(there.std())) > 0.5


def _largest_region(disagrees: NDArray[np.bool_]) -> int:
    # thin lines of disagreement run along every edge of a slightly misplaced copy; they are no region
    opened = cv2.morphologyEx(disagrees.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    return int(stats[1:, cv2.CC_STAT_AREA].max()) if count > 1 else 0
