"""Compare nearly blank sheets: two are one only when what little is on them is the same, in place and shape.

A dot or a page number gives no keypoints, and next to nothing of it is left in a thumbnail. So each sheet is laid over
the other as a whole, and moved by as much as a scanner moves it, to where the marks on them fit best.
"""

from typing import Final

import cv2
import numpy as np

from imagetools.features.extract import Features
from imagetools.matching import agreement, geometry
from imagetools.matching.alignment import Alignment
from imagetools.matching.calibration import Evidence
from imagetools.matching.geometry import Map
from imagetools.matching.ink import MIN_INK, compare_ink, deviation, smoothed
from imagetools.matching.planes import Grey, Mask
from imagetools.matching.registration import shrunk

# A mark is what differs from the paper by this part of what differs most, and by this many grey levels
_DARK: Final = 0.25
_MIN_DARK: Final = 24.0
# Part of the longer side by which a scanner moves what is on a sheet: a turn by 1° moves a corner by .011
_MAX_OFFSET: Final = 0.015
# In the kept pictures a pixel is .004
_MAX_ROUGH_OFFSET: Final = 0.02
_MAX_ROUGH_RATIO: Final = 4.0
_MAX_MARKED: Final = 0.03
# A kept picture with ink on no more of it is of a sheet whose ink, in full, is on less than half of `_NEARLY_BLANK`
_MAX_ROUGH_INK: Final = 0.02
# Sheets that no map lays over each other have fewer keypoints; photos, which must not be searched for marks, have more
_MAX_KEYPOINTS: Final = 64
# The marks are turned and moved once more, by at most this part of their own longer side, and some pixels
_MAX_TURN: Final = 0.03
_MAX_MOVE: Final = 3.0
_ROUNDS: Final = 50
_MIN_STEP: Final = 1e-4
_SMOOTHED: Final = 5
_MARGIN: Final = 24
# Of scans, 98 in 100 have a correlation of .84 and more everywhere, differ by .19 of the contrast, and have marks of
# 1.2 times the area, at most. Other dots, digits and letters in the same place differ by more in one of the three
_MIN_CORRELATION: Final = 0.84
_MAX_OUTSIDE: Final = 0.21
_MAX_AREA_RATIO: Final = 1.3


def align_sheets(first: Features, second: Features) -> list[Alignment]:
    """Lay two nearly blank sheets with marks in one place over each other as they are; nothing for other pictures.

    Its score is next to 0: the kept pictures do not show what the marks are.
    """
    if max(first.count, second.count) > _MAX_KEYPOINTS or not _marked_alike(first.close, second.close):
        return []
    affine = geometry.whole_picture_map(0, (first.width, first.height), (second.width, second.height))
    compared = agreement.compare(affine, first.pyramid, second.pyramid)
    return [Alignment(affine, Evidence(whole=True, inliers=0, agreement=compared, gap=255.0), ())]


def marked_otherwise(first: Features, second: Features) -> bool:
    """Tell whether both are sheets that are nearly blank even in the kept pictures, with marks in different places.

    As a whole most such pages are alike; they need not be opened to be told apart.
    """
    pictures = first.close, second.close
    if max(first.count, second.count) > _MAX_KEYPOINTS or _marked_alike(*pictures):
        return False
    return all(_marks(picture).any() and _ink_share(picture) <= _MAX_ROUGH_INK for picture in pictures)


def compare_sheets(first: Grey, second: Grey, side: int) -> float | None:
    """Return the share of ink that agrees, 0 to 1, if two sheets have the same marks in the same place, else None.

    side  pixels of the longer side on which they are compared, at most
    """
    # the larger one is brought to what the other can show
    larger, smaller = sorted((first, second), key=lambda sheet: -max(sheet.shape))
    smaller, _ = shrunk(smaller, side / max(smaller.shape))
    larger, _ = shrunk(larger, max(smaller.shape) / max(larger.shape))
    found = _compare_marks(larger, smaller)
    if found is None and max(first.shape) == max(second.shape):
        # a turn blurs thin lines of the one that is turned; of two equally large sheets either may be
        return _compare_marks(smaller, larger)
    return found


def _compare_marks(source: Grey, target: Grey) -> float | None:
    """Return the share of ink that agrees where the source is moved over the target, None for other marks."""
    affine = geometry.whole_picture_map(0, source.shape[::-1], target.shape[::-1])
    ours, theirs = _marks(_warped(source, affine, target.shape)), _marks(target)
    if not (ours.any() and theirs.any()):
        return None
    offset = _middle(theirs) - _middle(ours)
    if abs(offset) > _MAX_OFFSET * max(target.shape):
        return None
    affine = geometry.compose(_move(offset), affine)
    rows, columns = _around(theirs | _marks(_warped(source, affine, target.shape)))
    target = target[rows, columns]
    affine = geometry.compose(_move(-complex(columns.start, rows.start)), affine)
    source = _best_fit(source, affine, target)
    areas = [np.count_nonzero(_marks(picture)) for picture in (source, target)]
    if max(areas) > _MAX_AREA_RATIO * min(areas):
        return None
    compared = compare_ink(source, target, np.ones(target.shape, dtype=np.bool_))
    alike = compared.correlation[compared.ink].min(initial=1.0) >= _MIN_CORRELATION
    return compared.agreement if alike and compared.outside.max() <= _MAX_OUTSIDE else None


def _marked_alike(one: Grey, two: Grey) -> bool:
    """Tell whether both have few marks, about as many, and in about the same place."""
    marks = [_marks(picture) for picture in (one, two)]
    shares = [float(marked.mean()) for marked in marks]
    if not 0 < max(shares) <= min(_MAX_MARKED, _MAX_ROUGH_RATIO * min(shares)):
        return False
    middles = [_middle(marked) / max(marked.shape) for marked in marks]
    return bool(abs(middles[0] - middles[1]) <= _MAX_ROUGH_OFFSET)


def _ink_share(picture: Grey) -> float:
    return float((deviation(smoothed(picture)) >= MIN_INK).mean())


def _marks(picture: Grey) -> Mask:
    off = np.abs(smoothed(picture) - np.float32(np.median(picture)))
    return np.asarray(off > max(_DARK * float(off.max()), _MIN_DARK), dtype=np.bool_)


def _middle(marks: Mask) -> complex:
    y, x = np.nonzero(marks)
    return complex(x.mean(), y.mean())


def _around(marks: Mask) -> tuple[slice, slice]:
    """Return the rows and the columns that hold all marks, and a margin."""
    lines = [np.flatnonzero(marks.any(axis=axis)) for axis in (1, 0)]
    rows, columns = (slice(max(0, int(at[0]) - _MARGIN), int(at[-1]) + _MARGIN + 1) for at in lines)
    return rows, columns


def _best_fit(source: Grey, affine: Map, target: Grey) -> Grey:
    """Return the source as it lies over the target, turned and moved a little where it correlates better so."""
    fitted = _warped(source, affine, target.shape)
    there = smoothed(target)
    until = cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, _ROUNDS, _MIN_STEP
    start, everywhere = np.eye(2, 3, dtype=np.float32), np.ones_like(target)
    try:
        # no change of size: a larger dot is another
        _, warp = cv2.findTransformECC(
            there, smoothed(fitted), start, cv2.MOTION_EUCLIDEAN, until, everywhere, _SMOOTHED
        )
    except cv2.error:
        # raised where the pictures do not correlate
        return fitted
    turn = np.asarray(warp, dtype=np.float64)
    height, width = target.shape
    corners = np.array([0, width, 1j * height, width + 1j * height], dtype=np.complex64)
    moved = np.abs(geometry.apply(turn, corners) - corners).max()
    if not moved <= _MAX_TURN * max(target.shape) + _MAX_MOVE:
        return fitted
    turned = _warped(source, geometry.compose(geometry.inverse(turn), affine), target.shape)
    return turned if _correlation(turned, target) > _correlation(fitted, target) else fitted


def _correlation(one: Grey, two: Grey) -> float:
    here, there = (picture - picture.mean() for picture in (smoothed(one), smoothed(two)))
    return float((here * there).sum() / max(1.0, float(np.linalg.norm(here) * np.linalg.norm(there))))


def _move(by: complex) -> Map:
    return np.array([[1.0, 0.0, by.real], [0.0, 1.0, by.imag]])


def _warped(picture: Grey, affine: Map, shape: tuple[int, ...]) -> Grey:
    warped = cv2.warpAffine(picture, affine, shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.uint8)
