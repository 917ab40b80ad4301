"""Lay one picture over another to the pixel, from a map that is off by a few pixels.

Corners of one picture are tracked in the other (Lucas and Kanade 1981, in a pyramid); the map that most of them agree
on replaces the first. Where the content differs, tracked corners agree on nothing, so that the common template decides.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imagetools.matching import geometry
from imagetools.matching.geometry import Map
from imagetools.matching.planes import Grey, Mask

Corners = NDArray[np.float32]
"""x and y in pixels, (n, 2), or (n, 1, 2) as OpenCV tracks them."""

# Side of the pictures that the map is first moved on: a turn of 1° is 4 pixels there
_COARSE: Final = 420
_MAX_CORNERS: Final = 500
_QUALITY: Final = 0.03
_APART: Final = 60
_TRACKING_WINDOW: Final = (21, 21)
_LEVELS: Final = 3
# Pixels by which tracking there and back may miss
_MAX_RETURN: Final = 0.7
_TOLERANCES: Final = (1.0, 1.5)
# Corners that an affine map needs; fewer, but at least three, only shift the picture
_MIN_CORNERS: Final = 8
_MIN_FOR_SHIFT: Final = 3
# No corner of the picture moves by more than this part of the longer side: the right map is near the first
_MAX_SHIFT: Final = 0.06
# To shrink by less than this would only blur
_MIN_SHRINK: Final = 0.9
# Pixels across within which the border of the source affects the comparison
_MARGIN: Final = 31
# Below this many grey levels between the darkest and the lightest hundredth, the extremes are used instead
_MIN_CONTRAST: Final = 16


@dataclass(frozen=True)
class Registration:
    """Two pictures in one frame.

    source      the first picture, as it lies in the frame
    target      the second picture, shrunk where it was larger than the frame
    valid       where both pictures are, less a margin
    affine      from the first picture to the second, in their own pixels
    into_frame  from the second picture to the frame
    """

    source: Grey
    target: Grey
    valid: Mask
    affine: Map
    into_frame: Map


def register(source: Grey, target: Grey, affine: Map, side: int) -> Registration:
    """Lay the source over the target, in a frame of at most `side` pixels on the longer side.

    affine  a first guess, from source to target, in their pixels; it must not enlarge
    """
    there, into = shrunk(target, side / max(target.shape))
    here, away = shrunk(source, geometry.scale_of(geometry.compose(into, affine)))
    found = geometry.compose(into, geometry.compose(affine, geometry.inverse(away)))
    scale = _COARSE / max(there.shape)
    (small_here, shrink_here), (small_there, shrink_there) = shrunk(here, scale), shrunk(there, scale)
    small = geometry.compose(shrink_there, geometry.compose(found, geometry.inverse(shrink_here)))
    small = _better_map(small_here, small_there, small, _TOLERANCES[0])
    found = geometry.compose(geometry.inverse(shrink_there), geometry.compose(small, shrink_here))
    found = _better_map(here, there, found, _TOLERANCES[1])
    size = there.shape[1], there.shape[0]
    inside = cv2.warpAffine(np.full_like(here, 255), found, size, flags=cv2.INTER_NEAREST)
    margin = np.ones((_MARGIN, _MARGIN), np.uint8)
    valid = cv2.erode(inside, margin, borderType=cv2.BORDER_CONSTANT, borderValue=255) > 0
    whole = geometry.compose(geometry.inverse(into), geometry.compose(found, away))
    return Registration(_warped(here, found, size), there, np.asarray(valid, dtype=np.bool_), whole, into)


def shrunk(picture: Grey, scale: float) -> tuple[Grey, Map]:
    """Return a picture at a smaller scale, and the map to it; as it is where that is little smaller."""
    height, width = picture.shape
    if scale >= _MIN_SHRINK:
        return picture, np.eye(2, 3)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return small, geometry.whole_picture_map(0, (width, height), size)


def _better_map(source: Grey, target: Grey, affine: Map, tolerance: float) -> Map:
    """Return the map that most tracked corners agree on, or the map as it is."""
    height, width = target.shape
    here, there = _full_contrast(_warped(source, affine, (width, height))), _full_contrast(target)
    corners = cv2.goodFeaturesToTrack(there, _MAX_CORNERS, _QUALITY, max(4, max(there.shape) // _APART))
    if corners is None:
        return affine
    before, after = _tracked(there, here, np.asarray(corners, dtype=np.float32))
    move = _fit_move(before, after, tolerance)
    if move is None:
        return affine
    frame = np.array([0, width, 1j * height, width + 1j * height], dtype=np.complex64)
    if not np.abs(geometry.apply(move, frame) - frame).max() <= _MAX_SHIFT * max(there.shape):
        return affine
    moved = geometry.compose(move, affine)
    # in a blurred copy few corners are found again, and not in their places
    again = _full_contrast(_warped(source, moved, (width, height)))
    return moved if _correlation(again, there) >= _correlation(here, there) else affine


def _tracked(there: Grey, here: Grey, corners: Corners) -> tuple[Corners, Corners]:
    """Return the corners that are found again: where they are in the source, and where in the target."""
    forth, found, _ = cv2.calcOpticalFlowPyrLK(there, here, corners, None, winSize=_TRACKING_WINDOW, maxLevel=_LEVELS)
    back, again, _ = cv2.calcOpticalFlowPyrLK(here, there, forth, None, winSize=_TRACKING_WINDOW, maxLevel=_LEVELS)
    returns = np.abs(back - corners).max(axis=(1, 2)) < _MAX_RETURN
    kept = (found.ravel() > 0) & (again.ravel() > 0) & returns
    return np.asarray(forth[kept][:, 0], dtype=np.float32), np.asarray(corners[kept][:, 0], dtype=np.float32)


def _fit_move(before: Corners, after: Corners, tolerance: float) -> Map | None:
    if len(before) < _MIN_FOR_SHIFT:
        return None
    if len(before) < _MIN_CORNERS:
        right, down = np.median(after - before, axis=0).tolist()
        return np.array([[1.0, 0.0, right], [0.0, 1.0, down]])
    # OpenCV draws from a seed of its own, so that equal points give equal maps
    move, inliers = cv2.estimateAffine2D(before, after, ransacReprojThreshold=tolerance)
    if move is None or np.count_nonzero(inliers) < _MIN_CORNERS:
        return None
    return np.asarray(move, dtype=np.float64)


def _full_contrast(picture: Grey) -> Grey:
    """Stretch the levels from black to white: tracking compares levels, and paper is grey in a scan."""
    low, high = np.percentile(picture[::3, ::3], [1, 99])
    if high - low < _MIN_CONTRAST:
        low, high = float(picture.min()), float(picture.max()) + 1
    levels = (picture.astype(np.float32) - low) * (255 / (high - low))
    return np.asarray(np.clip(levels, 0, 255), dtype=np.uint8)


def _correlation(here: Grey, there: Grey) -> float:
    one, two = (picture.astype(np.float32) - picture.mean() for picture in (here, there))
    return float((one * two).sum() / max(1.0, float(np.linalg.norm(one) * np.linalg.norm(two))))


def _warped(picture: Grey, affine: Map, size: tuple[int, int]) -> Grey:
    warped = cv2.warpAffine(picture, affine, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.uint8)
