"""Move a map to where two pictures correlate best.

Evangelidis and Psarakis, "Parametric image alignment using enhanced correlation coefficient maximization", PAMI 30(10),
2008.
"""

from typing import Final

import cv2
import numpy as np

from imagetools.matching.geometry import Map, compose, determinant, inverse, whole_picture_map
from imagetools.matching.planes import Grey

# A map is refined on the image at half the size, then at the whole
_LEVELS: Final = (1, 0)
_MIN_STEP: Final = 1e-4
_SMOOTHED: Final = 5
_MIN_DETERMINANT: Final = 1e-3


def common_levels(source: tuple[Grey, ...], target: tuple[Grey, ...]) -> list[int]:
    """Return the levels of both pyramids to refine on, the smallest first."""
    return [level for level in _LEVELS if level < min(len(source), len(target))]


def refined(found: Map, source: tuple[Grey, ...], target: tuple[Grey, ...], level: int, rounds: int) -> Map | None:
    """Return the map, affine (2, 3) or in perspective (3, 3), refined on one level; None where it does not converge.

    source, target  pyramids of grey images, each half the one before; the map is between their first levels
    rounds          of refining at most
    """
    into, back = (whole_picture_map(0, of[0].shape[::-1], of[level].shape[::-1]) for of in (target, source))
    start = inverse(compose(into, compose(found, inverse(back)))).astype(np.float32)
    planes = target[level].astype(np.float32), source[level].astype(np.float32)
    motion = cv2.MOTION_AFFINE if len(found) == 2 else cv2.MOTION_HOMOGRAPHY
    until = cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, rounds, _MIN_STEP
    try:
        _, warp = cv2.findTransformECC(*planes, start, motion, until, np.ones_like(source[level]), _SMOOTHED)
    except cv2.error:
        # raised where the images do not correlate
        return None
    moved = np.asarray(warp, dtype=np.float64)
    # so written that NaN fails too
    if not abs(determinant(moved)) > _MIN_DETERMINANT:
        return None
    if len(moved) == 3:
        moved = moved / moved[2, 2]
    return inverse(compose(inverse(back), compose(moved, into)))
