"""Compare the ink of two pictures that lie in one frame, spot by spot.

Ink is whatever stands out from its surroundings: print, lines, texture.
"""

import itertools
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from imagetools.matching.planes import Grey, Mask, Plane
from imagetools.matching.sharpness import MAX_SHARPNESS_RATIO, match_sharpness

WINDOW: Final = 13
"""Pixels of a window: two letters of the smallest print that a scan leaves readable."""

MIN_INK: Final = 12.0
"""Deviation within a window, in grey levels, from which there is ink in it; noise and JPEG stay below."""

MIN_REGION: Final = 60
"""Pixels of a region that disagrees; of true scans few have as many."""

_NOISE: Final = np.float32(2.5)
_SMOOTH: Final = 0.7
_MIN_CORRELATION: Final = 0.6
# Pixels that a stroke may lie off
_LEEWAY: Final = 1
_MIN_CONTRAST: Final = 60.0
# Pixels at the border, where resizing has its own ways
_BORDER: Final = 6
# Pixels over which paper and light may change
_LIGHT: Final = 31


@dataclass(frozen=True)
class InkComparison:
    """Planes of the frame.

    correlation  local correlation of the two pictures, the best within the leeway
    first        deviation within a window of the first picture, grey levels
    second       the same of the second
    ink          where either picture has ink
    agrees       where the ink of both agrees
    outside      by how much a spot lies outside the other picture's levels around it, as a share of the contrast there
    """

    correlation: Plane
    first: Plane
    second: Plane
    ink: Mask
    agrees: Mask
    outside: Plane

    @property
    def agreement(self) -> float:
        """Share of what has ink that agrees, 0 to 1."""
        ink = int(np.count_nonzero(self.ink))
        return float(np.count_nonzero(self.agrees)) / ink if ink else 1.0


def compare_ink(source: Grey, target: Grey, valid: Mask) -> InkComparison:
    """Compare two pictures of one frame where it is valid."""
    here, there = smoothed(source), smoothed(target)
    everywhere = valid & (np.maximum(deviation(here), deviation(there)) > MIN_INK)
    if everywhere.any():
        here, there = match_sharpness(here, there, everywhere, MAX_SHARPNESS_RATIO)
    first, second = deviation(here), deviation(there)
    ink = (np.maximum(first, second) > MIN_INK) & valid
    correlation = _correlation(here, there, first, second, ink)
    agrees = ink & (correlation >= _MIN_CORRELATION)
    return InkComparison(correlation, first, second, ink, agrees, _outside(here, there, ink, agrees))


def smoothed(picture: Grey) -> Plane:
    """Return the picture without the finest noise."""
    return np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), _SMOOTH), dtype=np.float32)


def deviation(plane: Plane) -> Plane:
    """Return the standard deviation within the window around each pixel."""
    mean = _mean(plane)
    return np.asarray(np.sqrt(np.maximum(_mean(plane * plane) - mean * mean, 0)), dtype=np.float32)


def _mean(plane: Plane) -> Plane:
    return np.asarray(cv2.blur(plane, (WINDOW, WINDOW), borderType=cv2.BORDER_REFLECT), dtype=np.float32)


def _correlation(here: Plane, there: Plane, first: Plane, second: Plane, ink: Mask) -> Plane:
    """Return the best local correlation with one picture moved by up to the leeway; stops once all ink agrees."""
    mean_here, mean_there = _mean(here), _mean(there)
    scale_here, scale_there = (np.sqrt(spread**2 + _NOISE**2) for spread in (first, second))
    best = np.full(here.shape, -1.0, dtype=np.float32)
    steps = range(-_LEEWAY, _LEEWAY + 1)
    for right, down in sorted(itertools.product(steps, steps), key=lambda by: abs(by[0]) + abs(by[1])):
        moved, mean, scale = (_moved(plane, right, down) for plane in (here, mean_here, scale_here))
        local = (_mean(moved * there) - mean * mean_there) / (scale * scale_there)
        np.maximum(best, local, out=best)
        if best[ink].min(initial=1.0) >= _MIN_CORRELATION:
            break
    return best


def _moved(plane: Plane, right: int, down: int) -> Plane:
    by = np.array([[1.0, 0.0, right], [0.0, 1.0, down]])
    moved = cv2.warpAffine(plane, by, plane.shape[::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.float32)


def _outside(here: Plane, there: Plane, ink: Mask, agrees: Mask) -> Plane:
    """Return by how much each spot of either picture lies outside the levels of the other around it.

    Both are brought to the same contrast, light and sharpness first, by what agrees.
    """
    if np.count_nonzero(agrees) < MIN_REGION:
        return np.zeros(here.shape, dtype=np.float32)
    here = here * np.float32(there[agrees].std() / max(float(here[agrees].std()), 1e-3))
    here, there = match_sharpness(here, there, agrees)
    here = here + cv2.blur(there - here, (_LIGHT, _LIGHT), borderType=cv2.BORDER_REFLECT)
    around = np.ones((2 * _LEEWAY + 1, 2 * _LEEWAY + 1), np.uint8)
    window = np.ones((WINDOW, WINDOW), np.uint8)
    off = np.zeros(here.shape, dtype=np.float32)
    contrast = np.full(here.shape, _MIN_CONTRAST, dtype=np.float32)
    for one, other in ((here, there), (there, here)):
        off = np.maximum(off, np.maximum(one - cv2.dilate(other, around), cv2.erode(other, around) - one))
        contrast = np.maximum(contrast, cv2.dilate(one, window) - cv2.erode(one, window))
    within = np.zeros(here.shape, dtype=np.float32)
    within[_BORDER:-_BORDER, _BORDER:-_BORDER] = 1
    return np.asarray(off / contrast * ink * within, dtype=np.float32)
