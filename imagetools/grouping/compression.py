"""Tell what a picture was compressed with before it was saved again: the signs that an earlier JPEG left.

A JPEG's coefficients are multiples of the steps of its table. Saved again with finer steps, or without loss, they still
cluster at the multiples of the coarser ones. Where the blocks are cut four pixels off, they do not, so that the same
picture tells how a single compression would look (Lukáš & Fridrich 2003).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_BLOCK: Final = 8
_PLACES: Final = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2), (0, 3), (3, 0))
"""Coefficients that are looked at, (row, column): the higher ones are mostly 0."""

_MEAN_STEP: Final = 4.36
"""Mean step of libjpeg's luminance table over the mean step at _PLACES."""

_MIN_COUNTED: Final = 30
# By how much the cosine at the levels exceeds that of a single compression. Of 30 photos of the fit side, none that was
# saved once has more, and nearly all have that were saved at 75, 80, 85 or 92 and again at 95 or as PNG
_MIN_EXCESS: Final = 0.25
_SIDE: Final = 1024
_ROWS: Final = np.arange(4)[:, np.newaxis]
# The first rows of the discrete cosine transform
_BASIS: Final = np.cos((2 * np.arange(_BLOCK) + 1) * _ROWS * np.pi / (2 * _BLOCK)) * np.where(_ROWS, 0.5, 0.125**0.5)
_BIN: Final = 0.25
_LEVELS: Final = np.arange(0, 256, _BIN)
_STEPS: Final = np.arange(1, 31)
# Levels below half a step are those that the step makes 0
_COUNTED: Final = (_STEPS[:, np.newaxis] / 2 < _LEVELS).astype(np.float64)
_COSINE: Final = np.cos(2 * np.pi * _LEVELS / _STEPS[:, np.newaxis]) * _COUNTED


def earlier_step(luminance: NDArray[np.uint8], table: NDArray[np.int64] | None) -> float | None:
    """Return the mean step of the JPEG that a picture was before, by libjpeg's tables; None: no sign of one.

    luminance  (height, width), as the file has it, not turned; the middle of a large picture is looked at
    table      (8, 8), quantization of the file itself; None without loss

    An earlier JPEG is found if its steps are coarser than the table's, and the picture was not cropped or resized in
    between. One that was mirrored or turned by quarters has its blocks from the other end of the sides.
    """
    height, width = luminance.shape
    for top, left in sorted({(top, left) for top in (0, height % _BLOCK) for left in (0, width % _BLOCK)}):
        step = _earlier_step(luminance[top:, left:], None if top or left else table)
        if step is not None:
            return step
    return None


def _earlier_step(luminance: NDArray[np.uint8], table: NDArray[np.int64] | None) -> float | None:
    """Return it for a picture whose blocks begin in the upper left."""
    top, left = (max(0, side - _SIDE) // 2 // _BLOCK * _BLOCK for side in luminance.shape)
    middle = luminance[top : top + _SIDE, left : left + _SIDE].astype(np.float64)
    if min(middle.shape) < 4 * _BLOCK:
        return None
    blocks, shifted = _coefficients(middle), _coefficients(middle[4:, 4:])
    found = []
    for row, column in _PLACES:
        own = 1 if table is None else int(table[row, column])
        once = np.round(shifted[:, row, column] / own) * own
        excess = np.nan_to_num(_cosines(blocks[:, row, column]) - _cosines(once), nan=-1.0)
        excess[:own] = -1
        best = int(np.argmax(excess))
        found.append((own, int(_STEPS[best]) if excess[best] > _MIN_EXCESS else own))
    if np.median([earlier / own for own, earlier in found]) <= 1:
        return None
    return _MEAN_STEP * float(np.mean([earlier for _, earlier in found]))


def _coefficients(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lowest 4 × 4 coefficients of each block, (blocks, 4, 4)."""
    down, across = (side // _BLOCK for side in pixels.shape)
    tiles = pixels[: down * _BLOCK, : across * _BLOCK].reshape(down, _BLOCK, across, _BLOCK)
    blocks = tiles.transpose(0, 2, 1, 3).reshape(-1, _BLOCK, _BLOCK)
    return np.asarray(_BASIS @ blocks @ _BASIS.T, dtype=np.float64)


def _cosines(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each step how well the levels lie at its multiples, 1 at best; NaN where too few do not vanish."""
    places = np.round(np.abs(levels) / _BIN).astype(np.int64)
    counts = np.bincount(places[places < len(_LEVELS)], minlength=len(_LEVELS)).astype(np.float64)
    counted = _COUNTED @ counts
    return np.where(counted >= _MIN_COUNTED, _COSINE @ counts / np.maximum(counted, 1), np.nan)
