"""Find what moved between two pictures of one scene: the frames of a burst, or of a film.

What lies on a copy, a patch or a caption, hides what the original shows there. What moved is still there, some pixels
further on, in both pictures. So every block that disagrees is looked for around its place in the other picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imagetools.matching.overlap import Overlap
from imagetools.matching.planes import Mask, Plane

SIDE: Final = 256
"""Pixels of the overlap's longer side."""

_WINDOW: Final = (9, 9)
_NOISE: Final = np.float32(4.0)
# A window disagrees where it has this deviation in either picture, grey levels, and no more than this correlation
_MIN_TEXTURE: Final = 8.0
_MAX_CORRELATION: Final = 0.5
# Pixels of a block and between two blocks, and how far one is looked for
_BLOCK: Final = 16
_STRIDE: Final = 8
_REACH: Final = 18
# A block disagrees where this share of its windows does
_MIN_DISAGREEING: Final = 0.4
# of which this many are looked for
_MAX_BLOCKS: Final = 24
# A block that moved is found with this correlation, which is this much more than at its own place, this far away
_MIN_FOUND: Final = 0.75
_MIN_GAIN: Final = 0.25
_MIN_STEP: Final = 2.5
# Blocks move together where their steps differ by this at most, pixels; this many of them, and this share of all
# that disagree, make a motion
_TOGETHER: Final = 2.0
_MIN_BLOCKS: Final = 3
_MIN_SHARE: Final = 0.15

Steps = NDArray[np.float64]
"""Places and steps of blocks that moved, (n, 4): x, y, right, down, in pixels of the overlap."""


@dataclass(frozen=True)
class Motion:
    """How two pictures of one scene differ at close range.

    differing  share of the overlap whose blocks disagree
    moved      share of the overlap that is found again, moved alike, in both directions; 0 where nothing moved
    """

    differing: float = 0.0
    moved: float = 0.0


NOTHING_MOVED: Final = Motion()


def find_motion(overlap: Overlap) -> Motion:
    """Tell what moved in the overlap of two pictures, and how much of it differs at all."""
    here, there = overlap.here, overlap.there
    blocks = _blocks(_disagreeing(here, there, overlap.valid))
    differing = len(blocks) / max(1, (here.shape[0] // _STRIDE) * (here.shape[1] // _STRIDE))
    if len(blocks) < _MIN_BLOCKS:
        return Motion(differing, 0.0)
    some = blocks[:: -(-len(blocks) // _MAX_BLOCKS)]
    needed = max(_MIN_BLOCKS, _MIN_SHARE * len(some))
    forth = _steps(here, there, some)
    # next to nothing of what lies on a copy is found
    moved = _together(forth, _steps(there, here, some)) if len(forth) >= needed else 0
    return Motion(differing, differing * moved / len(some) if moved >= needed else 0.0)


def _disagreeing(here: Plane, there: Plane, valid: Plane) -> Mask:
    mean_here, mean_there = _mean(here), _mean(there)
    spread_here = np.maximum(_mean(here * here) - mean_here * mean_here, 0)
    spread_there = np.maximum(_mean(there * there) - mean_there * mean_there, 0)
    common = _mean(here * there) - mean_here * mean_there
    local = common / np.sqrt((spread_here + _NOISE) * (spread_there + _NOISE))
    textured = np.maximum(spread_here, spread_there) > _MIN_TEXTURE**2
    inside = cv2.erode(valid, np.ones(_WINDOW, np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0
    return np.asarray(textured & (local < _MAX_CORRELATION) & inside, dtype=np.bool_)


def _mean(plane: Plane) -> Plane:
    return np.asarray(cv2.blur(plane, _WINDOW), dtype=np.float32)


def _blocks(bad: Mask) -> list[tuple[int, int]]:
    """Return the upper left corners, x and y, of the blocks that disagree."""
    share = cv2.boxFilter(bad.astype(np.float32), -1, (_BLOCK, _BLOCK), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    tops, lefts = np.nonzero(share[:-_BLOCK:_STRIDE, :-_BLOCK:_STRIDE] >= _MIN_DISAGREEING)
    return [(_STRIDE * left, _STRIDE * top) for left, top in zip(lefts.tolist(), tops.tolist(), strict=True)]


def _steps(source: Plane, target: Plane, blocks: Sequence[tuple[int, int]]) -> Steps:
    """Return the steps of the blocks of the source that are found elsewhere in the target."""
    found = []
    height, width = target.shape
    for x, y in blocks:
        block = source[y : y + _BLOCK, x : x + _BLOCK]
        if float(block.std()) < _MIN_TEXTURE:
            continue
        left, top = max(0, x - _REACH), max(0, y - _REACH)
        around = target[top : min(height, y + _BLOCK + _REACH), left : min(width, x + _BLOCK + _REACH)]
        alike = cv2.matchTemplate(around, block, cv2.TM_CCOEFF_NORMED)
        _, best, _, at = cv2.minMaxLoc(alike)
        right, down = at[0] + left - x, at[1] + top - y
        stayed = float(alike[max(0, y - top - 1) : y - top + 2, max(0, x - left - 1) : x - left + 2].max())
        if best >= _MIN_FOUND and best - stayed >= _MIN_GAIN and right * right + down * down >= _MIN_STEP**2:
            found.append((x, y, right, down))
    return np.array(found, dtype=np.float64).reshape(-1, 4)


def _together(forth: Steps, back: Steps) -> int:
    """Return how many blocks make the step that most agree on, forth, and against it, back; the fewer of both."""
    best = 0
    for step in forth[:, 2:]:
        ahead = int((np.abs(forth[:, 2:] - step).max(axis=1) <= _TOGETHER).sum())
        behind = int((np.abs(back[:, 2:] + step).max(axis=1) <= _TOGETHER).sum())
        best = max(best, min(ahead, behind))
    return best
