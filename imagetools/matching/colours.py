"""How the colours of a copy differ from its original's: other hues, or the same ones lighter, warmer or stronger.

A photo program's usual adjustments take all colours the same way: in the plane of a* and b* of CIE L*a*b* they scale
them (contrast, saturation) and shift them (a warm tint). Whatever is left is a change of hue: of the whole, or of a
region, as where a shop shows one garment in six colours.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imagetools.features.extract import THUMB_SIDE, Features
from imagetools.matching import geometry
from imagetools.matching.geometry import Map
from imagetools.matching.overlap import Overlap, cut_out, find_frame
from imagetools.matching.planes import Mask, Plane

Colours = NDArray[np.float32]
"""Three values a cell, (height, width, 3)."""

Chroma = NDArray[np.complex64]
"""a* + i·b* of each cell, (height, width)."""

# Pixels of a cell's side, on which its structure is compared, and the window for that
_CELL: Final = 4
_WINDOW: Final = (11, 11)
_THUMB: Final = (THUMB_SIDE, THUMB_SIDE)
# A cell counts where this much of it comes from inside the other picture
_INSIDE: Final = 0.99
_MIN_CELLS: Final = 6
# A cell whose deviation is above this has structure; the structure is the same from this correlation on
_MIN_TEXTURE: Final = 6.0
_MIN_CORRELATION: Final = 0.6
_NOISE: Final = np.float32(2.0)
# Share of a region's cells that show the same structure in both, and the share of such cells among all with structure
# in it and around it: what lies on a copy has its own structure, or none
_MIN_STRUCTURED: Final = 0.3
_MIN_ALIKE: Final = 0.75
# Mean difference of a pixel's channels, of 255, below which a picture counts as without colour
_MAX_GREY_SPREAD: Final = 3.0
# and by which more the other one has
_MIN_SPREAD_LOST: Final = 3.0
# A grey copy has the other's lightness but for contrast: L* may miss by this in nine cells of ten
_MAX_LIGHTNESS_GAP: Final = 8.0
# An adjustment scales all colours by a factor in this range and shifts them by at most this ΔE
_SCALES: Final = (0.3, 2.2)
_MAX_TINT: Final = 13.0
_ROUNDS: Final = 5
# Holds the fit where a picture has next to no colour: as if each cell varied by this
_RIDGE: Final = np.float32(4.0)
# What an adjustment leaves of a cell, ΔE, from which its hue is another; a region of them counts from this share on
_MIN_REST: Final = 12.0
_MIN_REGION: Final = 0.08
# All hues are turned where they turn by this angle and a quarter of the cells differ in hue by this ΔH, or half by more
_MIN_TURN: Final = 25.0
_MIN_HUE_DIFFERENCE: Final = 5.0
_CLEAR_HUE_DIFFERENCE: Final = 12.0


@dataclass(frozen=True)
class ColourChange:
    """How the colours differ where two pictures overlap.

    difference  median CIE76 ΔE of the overlap, or of the region that has another hue where that is more; 0 for none.
                Each cell of a 16 × 16 grid is compared with the range of colours within one cell of it, so that a
                map that is a little off changes nothing
    hue         whether the hue changed, of the whole or of a region that shows the same otherwise
    grey        whether one is a copy of the other without colour
    """

    difference: float = 0.0
    hue: bool = False
    grey: bool = False


def compare_colours(affine: Map, first: Features, second: Features, *, negative: bool = False) -> ColourChange:
    """Compare the colour thumbnails where a map from the first to the second picture lays them over each other.

    negative  one is the other with its brightness inverted
    """
    frame = find_frame(affine, first.pyramid[0].shape, second.pyramid[0].shape, THUMB_SIDE)
    if frame is None:
        return ColourChange()
    here, there = (second, first) if frame.turned else (first, second)
    ours, theirs = here.colours, there.colours
    if negative:
        ours = 255 - ours
    ours, inside = _cells(ours, here, frame.from_here, frame.size)
    theirs, inside_there = _cells(theirs, there, frame.from_there, frame.size)
    inside &= inside_there
    if np.count_nonzero(inside) < _MIN_CELLS:
        return ColourChange()
    one, two = _lab(ours), _lab(theirs)
    apart = _apart(one, two)
    difference = float(np.median(apart[inside]))
    greys = sorted(float(np.ptp(colours[inside], axis=1).mean()) for colours in (ours, theirs))
    if greys[0] < _MAX_GREY_SPREAD:
        lost = greys[1] - greys[0] >= _MIN_SPREAD_LOST
        grey = lost and _same_lightness(one[inside][:, 0], two[inside][:, 0])
        return ColourChange(difference, hue=lost and not grey, grey=grey)
    chroma, other = _chroma(one), _chroma(two)
    most, quarter = np.quantile(np.abs(chroma - other)[inside], [1 - _MIN_REGION, 0.75]).tolist()
    # most copies have their original's colours
    if most > _MIN_REST:
        target = tuple(255 - level for level in second.pyramid) if negative else second.pyramid
        structure = _structure(cut_out(affine, first.pyramid, target, _CELL * THUMB_SIDE), inside.shape)
        region = _other_hue(chroma, other, inside, *structure)
        if region.any():
            return ColourChange(max(difference, float(np.median(apart[region]))), hue=True)
    return ColourChange(difference, hue=quarter >= _MIN_HUE_DIFFERENCE and _is_turned(chroma[inside], other[inside]))


def _cells(colours: Colours, picture: Features, into: Map, size: tuple[int, int]) -> tuple[Colours, Mask]:
    """Return what a thumbnail of the picture shows in the cells of a frame, and which of them are well inside it."""
    whole = geometry.compose(into, geometry.whole_picture_map(0, _THUMB, (picture.width, picture.height)))
    warp = cv2.warpAffine if len(whole) == 2 else cv2.warpPerspective
    laid = warp(colours, whole, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = warp(np.ones(_THUMB, np.float32), whole, size, flags=cv2.INTER_LINEAR) > _INSIDE
    # a cell on the border of the other picture shows both sides of it
    ring = 2 * max(1, round(geometry.scale_of(whole))) + 1
    kernel = np.ones((ring, ring), np.uint8)
    inside = cv2.erode(inside.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    return np.asarray(laid, dtype=np.float32), np.asarray(inside, dtype=np.bool_)


def _structure(overlap: Overlap | None, cells: tuple[int, ...]) -> tuple[Mask, Mask]:
    """Return which of (rows, columns) of cells have structure, and which of those the same in both pictures."""
    if overlap is None:
        return np.zeros(cells, np.bool_), np.zeros(cells, np.bool_)
    here, there = overlap.here, overlap.there
    mean_here, mean_there = _mean(here), _mean(there)
    spread_here = np.maximum(_mean(here * here) - mean_here * mean_here, 0)
    spread_there = np.maximum(_mean(there * there) - mean_there * mean_there, 0)
    common = _mean(here * there) - mean_here * mean_there
    alike = common / np.sqrt((spread_here + _NOISE) * (spread_there + _NOISE)) > _MIN_CORRELATION
    structured = np.maximum(spread_here, spread_there) > _MIN_TEXTURE**2
    middles = [
        ((np.arange(count) + 0.5) * pixels / count).astype(np.intp)
        for count, pixels in zip(cells, here.shape, strict=True)
    ]
    at = np.ix_(*middles)
    return np.asarray(structured[at], dtype=np.bool_), np.asarray((structured & alike)[at], dtype=np.bool_)


def _mean(plane: Plane) -> Plane:
    return np.asarray(cv2.blur(plane, _WINDOW), dtype=np.float32)


def _same_lightness(one: Colours, two: Colours) -> bool:
    """Tell whether two lists of L* are the same but for brightness and contrast."""
    slope, level = np.polyfit(one, two, 1) if float(np.ptp(one)) > 1 else (1.0, float((two - one).mean()))
    return bool(np.quantile(np.abs(two - slope * one - level), 0.9) <= _MAX_LIGHTNESS_GAP)


def _lab(colours: Colours) -> Colours:
    return np.asarray(cv2.cvtColor(colours / np.float32(255), cv2.COLOR_RGB2LAB), dtype=np.float32)


def _chroma(lab: Colours) -> Chroma:
    return np.asarray(lab[..., 1] + np.complex64(1j) * lab[..., 2], dtype=np.complex64)


def _apart(one: Colours, two: Colours) -> Plane:
    """Return how far each cell is outside the range of the other's colours within a cell of it, in the worse direction.

    one, two  (height, width, channels)
    """
    cells = np.ones((3, 3), np.uint8)
    gaps = []
    for colours, other in ((one, two), (two, one)):
        gap = np.maximum(colours - cv2.dilate(other, cells), cv2.erode(other, cells) - colours)
        gaps.append(np.linalg.norm(np.maximum(gap, 0), axis=2))
    return np.asarray(np.maximum(*gaps), dtype=np.float32)


def _other_hue(one: Chroma, two: Chroma, inside: Mask, structured: Mask, alike: Mask) -> Mask:
    """Return the largest region whose colours no adjustment explains, while its structure is the same; or nothing."""
    scale, tint = _fit_adjustment(one[inside], two[inside])
    adjusted = scale * one + np.complex64(tint)
    rest = _apart(*(np.dstack([plane.real, plane.imag]).astype(np.float32) for plane in (adjusted, two)))
    changed = (rest > _MIN_REST) & inside & (alike | ~structured)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(changed.astype(np.uint8), connectivity=4)
    for number in 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable"):
        region = np.asarray(labels == number, dtype=np.bool_)
        area = int(stats[number, cv2.CC_STAT_AREA])
        if area < _MIN_REGION * np.count_nonzero(inside):
            break
        near = cv2.dilate(region.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        same, all_near = np.count_nonzero(near & alike), np.count_nonzero(near & structured)
        own = np.count_nonzero(region & alike)
        if own >= _MIN_STRUCTURED * area and same >= _MIN_ALIKE * all_near:
            return region
    return np.zeros(inside.shape, dtype=np.bool_)


def _fit_adjustment(one: Chroma, two: Chroma) -> tuple[float, complex]:
    """Return the scale and the shift that take most colours of the one to those of the other, by reweighting."""
    scale, tint = 1.0, complex(np.median((two - one).real), np.median((two - one).imag))
    for _ in range(_ROUNDS):
        gap = np.abs(two - np.float32(scale) * one - np.complex64(tint))
        weight = 1 / (1 + (gap / max(1.0, 1.5 * float(np.median(gap)))) ** 2)
        weight /= weight.sum()
        middle, other = (weight * one).sum(), (weight * two).sum()
        spread = float((weight * np.abs(one - middle) ** 2).sum() + _RIDGE)
        slope = float((weight * ((one - middle).conj() * (two - other)).real).sum() + _RIDGE) / spread
        scale = min(max(slope, _SCALES[0]), _SCALES[1])
        tint = complex(other - scale * middle)
        tint *= min(1.0, _MAX_TINT / max(abs(tint), 1e-6))
    return scale, tint


def _is_turned(one: Chroma, two: Chroma) -> bool:
    """Tell whether all hues are turned: CIE ΔH and the angle of the complex factor that fits best."""
    product = two * one.conj()
    apart = 2 * np.sqrt(np.abs(product)) * np.abs(np.sin(np.angle(product) / 2))
    half, quarter = np.quantile(apart, [0.5, 0.75]).tolist()
    if half >= _CLEAR_HUE_DIFFERENCE:
        return True
    if quarter < _MIN_HUE_DIFFERENCE:
        return False
    weight = np.full(len(one), 1 / len(one), np.float32)
    factor = 1 + 0j
    for _ in range(_ROUNDS):
        middle, other = (weight * one).sum(), (weight * two).sum()
        spread = float((weight * np.abs(one - middle) ** 2).sum() + _RIDGE)
        factor = complex((weight * (one - middle).conj() * (two - other)).sum() + _RIDGE) / spread
        gap = np.abs(two - other - np.complex64(factor) * (one - middle))
        weight = 1 / (1 + (gap / max(1.0, 1.5 * float(np.median(gap)))) ** 2)
        weight /= weight.sum()
    return bool(abs(np.degrees(np.angle(factor))) >= _MIN_TURN)
