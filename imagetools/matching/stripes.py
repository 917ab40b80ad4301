"""Recognise a stripe of one shade that runs across one of two pictures, straight or aslant.

Its sides are two straight edges, side by side, that one picture has and the other has not.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from imagetools.matching.planes import Grey, Mask, Plane
from imagetools.matching.registration import shrunk

# Longer side that stripes are looked for at, pixels
_SIDE: Final = 400
# How far a stripe falls or rises, in its length, and in which steps that is tried
_MAX_SLOPE: Final = 0.5
_SLOPES: Final = np.linspace(-_MAX_SLOPE, _MAX_SLOPE, 81).tolist()
_FINE: Final = np.linspace(-0.0125, 0.0125, 11).tolist()
# Step between pixels two apart, in grey levels, that counts as an edge, and pixels within which the other's edges lie
_STEP: Final = 8.0
_NEAR: Final = 5
# A side is an edge along this share of its length, and has at least this share of the picture's
_MIN_EDGED: Final = 0.5
_MIN_LENGTH: Final = 0.3
# A stripe is at least and at most this wide, as a share of the picture's side
_MIN_WIDTH: Final = 0.05
_MAX_WIDTH: Final = 0.4
# This share of its pixels is within this many grey levels of its shade
_FLAT_SHARE: Final = 0.95
_FLAT_LEVELS: Final = 6.0
# Pixels beside its sides, where both shades mix
_MARGIN: Final = 3
# Pixels beside its sides that have another shade, for the most part; a frame's lines are thinner
_BESIDE: Final = 20


@dataclass(frozen=True)
class Stripe:
    """A stripe: where it lies in the frame, and whether it lies on the first picture or on the second."""

    mask: Mask
    in_first: bool


def find_stripe(source: Grey, target: Grey) -> Stripe | None:
    """Return the stripe that one of two pictures in one frame has, or None."""
    (here, _), (there, _) = (shrunk(picture, _SIDE / max(picture.shape)) for picture in (source, target))
    for in_first, one, other in ((True, here, there), (False, there, here)):
        for upright in (False, True):
            turned = (one.T, other.T) if upright else (one, other)
            lying = _lying_stripe(*(np.ascontiguousarray(picture) for picture in turned))
            if lying is None:
                continue
            small = np.ascontiguousarray(lying.T if upright else lying).astype(np.uint8)
            size = source.shape[1], source.shape[0]
            whole = cv2.resize(small, size, interpolation=cv2.INTER_NEAREST) > 0
            return Stripe(np.asarray(whole, dtype=np.bool_), in_first)
    return None


def _lying_stripe(one: Grey, other: Grey) -> Mask | None:
    """Return where the stripe lies that runs from the left to the right of one picture, or None."""
    alone = _edges(one) & (cv2.dilate(_edges(other), np.ones((_NEAR, _NEAR), np.uint8)) == 0).astype(np.uint8)
    # a side may lie between two rows
    edges = np.asarray(cv2.dilate(alone, np.ones((3, 1), np.uint8)), dtype=np.uint8)
    _, about = max((_sides(edges, slope)[0], slope) for slope in _SLOPES)
    (edged, top, bottom), slope = max((_sides(edges, about + step), about + step) for step in _FINE)
    if edged < _MIN_EDGED:
        return None
    rows = _sheared_rows(one.shape, slope)
    inside = (rows > top + _MARGIN) & (rows < bottom - _MARGIN)
    if not inside.any():
        return None
    off = np.abs(one - np.float32(np.median(one[inside])))
    beside = (rows < top - _MARGIN) & (rows >= top - _BESIDE), (rows > bottom + _MARGIN) & (rows <= bottom + _BESIDE)
    # between two lines on paper is paper
    differs = all(where.any() and (off[where] > _STEP).mean() >= _MIN_EDGED for where in beside)
    if not differs or (off[inside] <= _FLAT_LEVELS).mean() < _FLAT_SHARE:
        return None
    return np.asarray((rows >= top - _MARGIN) & (rows <= bottom + _MARGIN), dtype=np.bool_)


def _edges(picture: Grey) -> Grey:
    smooth = cv2.GaussianBlur(picture.astype(np.float32), (3, 3), 0)
    steps = np.zeros(picture.shape, np.uint8)
    steps[1:-1] = np.abs(smooth[2:] - smooth[:-2]) > _STEP
    return steps


def _sheared_rows(shape: tuple[int, ...], slope: float) -> Plane:
    """Return for each pixel the row that it comes to lie in when lines of the slope are made level."""
    height, width = shape
    columns = np.arange(width, dtype=np.float32) - np.float32(width / 2)
    rows = np.arange(height, dtype=np.float32)[:, np.newaxis] - np.float32(slope) * columns
    return np.asarray(rows, dtype=np.float32)


def _sides(edges: Grey, slope: float) -> tuple[float, int, int]:
    """Return along which share both sides are edges, the lesser of the two, and the rows of the two clearest."""
    height, width = edges.shape
    room = int((_MAX_SLOPE + _FINE[-1]) * width / 2) + 1
    y, x = np.nonzero(edges)
    sheared = np.rint(y - slope * (x - width / 2)).astype(np.intp) + room
    count = np.bincount(sheared, minlength=height + 2 * room)
    # where a line of the slope enters the picture and leaves it
    rows = np.arange(len(count)) - room
    ends = np.clip(np.array([-rows, height - rows]) / (slope or 1e-9) + width / 2, 0, width)
    length = np.abs(ends[1] - ends[0])
    share = np.where(length >= _MIN_LENGTH * width, count / np.maximum(length, 1), 0)
    first = int(share.argmax())
    apart = np.abs(rows - rows[first])
    others = np.where((apart >= _MIN_WIDTH * height) & (apart <= _MAX_WIDTH * height), share, 0)
    second = int(others.argmax())
    return float(others[second]), min(first, second) - room, max(first, second) - room
