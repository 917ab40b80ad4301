"""Measure how far two images agree where a map lays one over the other.

Matching keypoints show only that something is shared: a floor, a logo, an app around the picture. Here the local
correlation of every textured spot of the overlap decides whether both sides show the same.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from imagetools.matching.ecc import common_levels, refined
from imagetools.matching.geometry import Map, apply
from imagetools.matching.overlap import cut_out
from imagetools.matching.planes import Grey, Mask, Plane
from imagetools.matching.sharpness import MAX_SHARPNESS_RATIO, match_sharpness, sharpness_ratio

# The overlap is compared at this many pixels on its longer side, or fewer where an image has fewer
WORKING_SIDE: Final = 128
_WINDOW: Final = (7, 7)
# Standard deviation, in grey levels, from which a window counts as textured
_MIN_TEXTURE: Final = 4.0
# The same for one side alone: blur and JPEG take fainter texture
_STRONG_TEXTURE: Final = 12.0
_NOISE: Final = np.float32(2.0)
_MIN_CORRELATION: Final = 0.6
# Holes are searched with a window of this part of the overlap's longer side
_HOLE_WINDOWS: Final = 7
# where this part of the window is textured
_MIN_HOLE_TEXTURE: Final = 0.35
# Step between two pixels, in grey levels, that counts as an edge
_STEP: Final = 8.0
_ROUNDS: Final = 30
# Where the map is right and the pictures are equally sharp, this part of what agrees does so exactly: in 99 of 100
# blurred copies .9 and more, in look-alikes up to .85
_EXACT_PART: Final = 0.9
# Refining moves no corner by more than this part of the target's longer side: the right map is near
_MAX_SHIFT: Final = 0.1


@dataclass(frozen=True)
class Agreement:
    """Agreement of two images on their overlap.

    share       of the textured windows, those whose local correlation is above .6
    strict      the same above .85
    mean        mean local correlation of the textured windows
    hole        largest connected region in which most of what is textured disagrees, as a share of the overlap
    framed      how far the sides of the hole are edges in both images, 0 to 1: two photos in the same app have the
                same frame around them, while what lies on a copy has edges in the copy alone
    textured    share of the overlap that is textured
    correlation of the whole overlap
    sharpness   energy of edges in the first picture over that in the second, before either is blurred
    """

    share: float
    strict: float
    mean: float
    hole: float
    framed: float
    textured: float
    correlation: float
    sharpness: float = 1.0

    @property
    def exact(self) -> bool:
        """Whether nearly all that agrees does so exactly."""
        return self.strict >= _EXACT_PART * self.share


NO_AGREEMENT: Final = Agreement(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


def compare(affine: Map, source: tuple[Grey, ...], target: tuple[Grey, ...], side: int = WORKING_SIDE) -> Agreement:
    """Lay the source over the target by the map, and compare them.

    source, target  pyramids of grey images, each half the one before; the map is between their first levels
    side            pixels of the overlap's longer side at most
    """
    overlap = cut_out(affine, source, target, side)
    if overlap is None:
        return NO_AGREEMENT
    found = _agreement(overlap.here, overlap.there, overlap.valid)
    if not found.textured:
        return found
    inside = np.asarray(overlap.valid > 0, dtype=np.bool_)
    ratio = sharpness_ratio(overlap.here, overlap.there, inside)
    if not 1 / MAX_SHARPNESS_RATIO <= ratio <= MAX_SHARPNESS_RATIO:
        # look-alikes agree loosely however blurred; a blurred copy agrees exactly in what the blur has left
        left = _agreement(*match_sharpness(overlap.here, overlap.there, inside), overlap.valid)
        found = left if left.exact else found
    return replace(found, sharpness=1 / ratio if overlap.frame.turned else ratio)


def refine(affine: Map, source: tuple[Grey, ...], target: tuple[Grey, ...]) -> Map:
    """Move the map a little, to where the images correlate best; return it as it is where no near map is better.

    A map from few keypoints is off by some pixels, and fine stripes that lie half a stripe apart disagree.
    source, target  pyramids of grey images, each half the one before; the map is between their first levels
    """
    height, width = source[0].shape
    corners = np.array([0, width, 1j * height, width + 1j * height], dtype=np.complex64) - np.complex64(0.5 + 0.5j)
    best = affine
    for level in common_levels(source, target):
        moved = refined(best, source, target, level, _ROUNDS)
        if moved is None:
            return affine
        shift = np.abs(apply(moved, corners) - apply(affine, corners)).max()
        if not shift <= _MAX_SHIFT * max(target[0].shape):
            return affine
        best = moved
    return best


def _mean(plane: Plane) -> Plane:
    return np.asarray(cv2.boxFilter(plane, -1, _WINDOW, borderType=cv2.BORDER_CONSTANT), dtype=np.float32)


def _agreement(here: Plane, there: Plane, valid: Plane) -> Agreement:
    weight = _mean(valid)
    # a window that is mostly outside says little
    inside = (weight > 0.5) & (valid > 0)
    area = int(np.count_nonzero(inside))
    if area < 16:
        return NO_AGREEMENT
    weight = np.maximum(weight, np.float32(1e-3))
    pictures = here, there
    here, there = (here - here[inside].mean()) * valid, (there - there[inside].mean()) * valid
    mean_here, mean_there = _mean(here) / weight, _mean(there) / weight
    spread_here = np.maximum(_mean(here * here) / weight - mean_here * mean_here, 0)
    spread_there = np.maximum(_mean(there * there) / weight - mean_there * mean_there, 0)
    common = _mean(here * there) / weight - mean_here * mean_there
    local = common / np.sqrt((spread_here + _NOISE) * (spread_there + _NOISE))
    weaker, stronger = np.minimum(spread_here, spread_there), np.maximum(spread_here, spread_there)
    textured = ((weaker > _MIN_TEXTURE**2) | (stronger > _STRONG_TEXTURE**2)) & inside
    whole = _correlation(here[inside], there[inside])
    values = local[textured]
    if not len(values):
        return Agreement(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, whole)
    hole = _largest_hole(textured, textured & (local > _MIN_CORRELATION), inside)
    return Agreement(
        share=float((values > _MIN_CORRELATION).mean()),
        strict=float((values > 0.85).mean()),
        mean=float(values.mean()),
        hole=hole.area / area,
        framed=_framed(hole, *pictures) if hole.area else 0.0,
        textured=len(values) / area,
        correlation=whole,
    )


def _correlation(here: Plane, there: Plane) -> float:
    here, there = here - here.mean(), there - there.mean()
    spread = float(here @ here) * float(there @ there)
    # below half a grey level there is nothing but rounding to compare
    return float(here @ there) / math.sqrt(spread) if spread > (0.25 * len(here)) ** 2 else 0.0


@dataclass(frozen=True)
class _Hole:
    """A connected region: its pixels, its box, and how far off its sides may be, all in pixels."""

    area: int
    left: int
    top: int
    right: int
    bottom: int
    blurred: int


def _largest_hole(textured: Mask, agrees: Mask, inside: Mask) -> _Hole:
    """Find the largest connected region around which less than half of what is textured agrees.

    The region counts as a whole, since a third of the windows of two different pictures agree by chance.
    """
    window = max(3, max(textured.shape) // _HOLE_WINDOWS) | 1
    there = cv2.boxFilter(textured.astype(np.float32), -1, (window, window), borderType=cv2.BORDER_CONSTANT)
    same = cv2.boxFilter(agrees.astype(np.float32), -1, (window, window), borderType=cv2.BORDER_CONSTANT)
    hole = (same < 0.5 * there) & (there > _MIN_HOLE_TEXTURE) & inside
    count, _, stats, _ = cv2.connectedComponentsWithStats(hole.astype(np.uint8), connectivity=4)
    if count == 1:
        return _Hole(0, 0, 0, 0, 0, 0)
    left, top, width, height, area = stats[1 + stats[1:, cv2.CC_STAT_AREA].argmax()].tolist()
    return _Hole(area, left, top, left + width, top + height, window // 2 + 2)


def _framed(hole: _Hole, here: Plane, there: Plane) -> float:
    """Return the mean over the hole's sides of how far each is an edge in both images.

    A side at the border of the overlap does not count; a hole with no other side is framed by the overlap itself.
    """
    height, width = here.shape
    rows, columns = slice(hole.top, hole.bottom), slice(hole.left, hole.right)
    lying = [_edge(at, hole.blurred, here[:, columns], there[:, columns], height) for at in (hole.top, hole.bottom)]
    standing = [_edge(at, hole.blurred, here[rows].T, there[rows].T, width) for at in (hole.left, hole.right)]
    sides = [side for side in (*lying, *standing) if side is not None]
    return sum(sides) / len(sides) if sides else 1.0


def _edge(at: int, within: int, here: Plane, there: Plane, length: int) -> float | None:
    """Return by how much the row where the pictures part is an edge in both, 0 to 1, or None at the border."""
    if at <= within // 2 or at >= length - within // 2:
        return None
    near = slice(max(0, at - within), at + within + 1)
    one, two = here[near], there[near]
    # beside the line the two show the same, with edges that are no frame
    apart = np.abs(np.diff(np.abs(one - two).mean(axis=1)))
    line = int(apart.argmax())
    steps = [(np.abs(np.diff(image, axis=0)) > _STEP).mean(axis=1, dtype=np.float32) for image in (one, two)]
    # stripes and checks step everywhere: an edge does where its surroundings do not
    prominent = np.minimum(*[step - np.median(step) for step in steps])
    return float(max(0.0, prominent[max(0, line - 1) : line + 2].max()))
