"""Bends: what no flat map undoes, such as waves, a page that is not flat, a scanner's jerk.

Every column of the picture may be displaced, and every row, both smoothly; a point moves by the sum of the two. That
follows waves along and across, and is too stiff to bend one thing into another.

The displacement is read from the optical flow between the pictures (DIS, Kroeger et al. 2016).
"""

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imagetools.matching import geometry
from imagetools.matching.geometry import Map, Points
from imagetools.matching.planes import Grey, Plane

Displacement = NDArray[np.complex64]
"""Right and down, x + y·i."""

Flow = NDArray[np.float32]
"""Right and down of every pixel, (height, width, 2)."""

_ROUNDS: Final = 3
# The displacement is smoothed by this part of the longer side: a wave is four times as long at least
_SMOOTHNESS: Final = 0.012
_MIN_SMOOTHNESS: Final = 2.0
_FITS: Final = 4
# No point moves further than this part of the longer side
_MAX_SHIFT: Final = 0.08
# Gradients, in grey levels, from which a pixel counts no more
_MAX_WEIGHT: Final = 200.0
# Pixels by which flow there and back may miss
_MAX_RETURN: Final = 1.0
# Columns and rows with less than this part of the usual weight lean on their neighbors
_DAMPING: Final = 0.01
# Side below which there is nothing to bend
_MIN_SIDE: Final = 32


@dataclass(frozen=True)
class Bend:
    """How far the columns and the rows of a picture are displaced in another.

    columns  complex64 (width,), shares of the picture's width and height
    rows     complex64 (height,), the same
    """

    columns: Displacement
    rows: Displacement

    @property
    def both(self) -> float:
        """How far both columns and rows are displaced, as a share of the picture's sides: 0 where only one kind is."""
        return min(float(np.abs(one).max()) for one in (self.columns, self.rows))

    def at(self, points: Points, size: tuple[int, int]) -> Displacement:
        """Return the displacement in pixels at points of the picture, where it is drawn at (width, height)."""
        width, height = size
        across, down = (points.real + 0.5) / width, (points.imag + 0.5) / height
        shares: Displacement = np.add(_between(self.columns, across), _between(self.rows, down), dtype=np.complex64)
        return _complex(shares.real * width, shares.imag * height)


def find_bend(source: Grey, target: Grey, found: Map) -> Bend | None:
    """Return by how much the target's columns and rows are displaced, seen from where the map puts the source.

    found  from source to target, affine or in perspective
    None where the pictures are small or a point would move far.
    """
    height, width = target.shape
    if min(*target.shape, *source.shape) < _MIN_SIDE:
        return None
    grid = _grid(width, height)
    back, weight = geometry.inverse(found), _texture(target)
    columns, rows = np.zeros(width, np.complex64), np.zeros(height, np.complex64)
    tracker = _tracker()
    for _ in range(_ROUNDS):
        at = geometry.apply(back, grid + columns + rows[:, np.newaxis])
        here, inside = _sampled(source, at, target)
        forth, again = _flow(tracker, target, here), _flow(tracker, here, target)
        moved = _complex(forth[..., 0], forth[..., 1])
        returned = _remapped(again, grid + moved)
        counted = weight * inside * (np.abs(returned + forth).max(axis=2) < _MAX_RETURN)
        if not counted.any():
            return None
        more = _fit(moved, np.asarray(counted, dtype=np.float32))
        columns, rows = columns + more[0], rows + more[1]
    furthest = np.abs(columns).max() + np.abs(rows).max()
    if not furthest <= 2 * _MAX_SHIFT * max(target.shape):
        return None
    return Bend(*(_complex(one.real / width, one.imag / height) for one in (columns, rows)))


def straightened(source: Grey, size: tuple[int, int], found: Map, bend: Bend | None) -> Grey:
    """Return the source without the bend: as it has to be for the map to lay it over the target.

    size  (width, height) of the target
    bend  None leaves the source as it is
    """
    if bend is None:
        return source
    height, width = source.shape
    to = geometry.apply(found, _grid(width, height)).astype(np.complex64)
    moved = _remapped(source, geometry.apply(geometry.inverse(found), to + bend.at(to, size)))
    return np.asarray(moved, dtype=np.uint8)


def _grid(width: int, height: int) -> Points:
    return np.asarray(np.arange(width) + 1j * np.arange(height)[:, np.newaxis], dtype=np.complex64)


def _complex(right: NDArray[np.float32], down: NDArray[np.float32]) -> Displacement:
    return np.asarray(right + 1j * down, dtype=np.complex64)


def _tracker() -> cv2.DISOpticalFlow:
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    # it runs along stripes of the picture, one a thread, so that results would depend on the number of threads
    flow.setUseSpatialPropagation(False)
    return flow


def _flow(tracker: cv2.DISOpticalFlow, source: Grey, target: Grey) -> Flow:
    still = np.zeros((*source.shape, 2), np.float32)
    return np.asarray(tracker.calc(source, target, still), dtype=np.float32)


def _texture(picture: Grey) -> Plane:
    across, down = cv2.Sobel(picture, cv2.CV_32F, 1, 0), cv2.Sobel(picture, cv2.CV_32F, 0, 1)
    return np.asarray(np.minimum(np.hypot(across, down), _MAX_WEIGHT), dtype=np.float32)


def _sampled(source: Grey, at: NDArray[np.complex128], target: Grey) -> tuple[Grey, NDArray[np.bool_]]:
    """Return the source at these points, the target itself where they lie outside, and where they lie inside."""
    height, width = source.shape
    inside = (at.real >= 0) & (at.imag >= 0) & (at.real <= width - 1) & (at.imag <= height - 1)
    return np.where(inside, _remapped(source, at), target).astype(np.uint8), inside


def _remapped(image: Grey | Flow, at: NDArray[np.complexfloating[Any, Any]]) -> NDArray[Any]:
    x, y = at.real.astype(np.float32), at.imag.astype(np.float32)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _fit(flow: Displacement, weight: Plane) -> tuple[Displacement, Displacement]:
    """Return the displacements of columns and of rows that together fit the flow, by turns."""
    height, width = weight.shape
    columns, rows = np.zeros(width, np.complex64), np.zeros(height, np.complex64)
    for _ in range(_FITS):
        rows = _smooth_mean(flow - columns, weight, axis=1)
        columns = _smooth_mean(flow - rows[:, np.newaxis], weight, axis=0)
    return columns, rows


def _smooth_mean(flow: Displacement, weight: Plane, axis: int) -> Displacement:
    moved = (flow * weight).sum(axis=axis)
    sums = np.stack([moved.real, moved.imag, weight.sum(axis=axis)]).astype(np.float32)
    smoothness = max(_MIN_SMOOTHNESS, _SMOOTHNESS * max(weight.shape))
    length = 8 * int(smoothness) + 1
    right, down, total = cv2.GaussianBlur(
        sums, (length, 1), smoothness, sigmaY=smoothness, borderType=cv2.BORDER_CONSTANT
    )
    total = total + np.float32(_DAMPING * float(total.mean()))
    return np.asarray(_complex(right, down) / np.maximum(total, np.float32(1e-6)), dtype=np.complex64)


def _between(values: Displacement, at: NDArray[np.floating[Any]]) -> Displacement:
    """Return the values between those of the pixels' middles, at shares of the side."""
    middles = (np.arange(len(values)) + 0.5) / len(values)
    return np.asarray(np.interp(at, middles, values), dtype=np.complex64)
