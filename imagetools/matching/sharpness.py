"""Bring two pictures to the same sharpness."""

from typing import Final

import cv2
import numpy as np

from imagetools.matching.planes import Mask, Plane

MAX_SHARPNESS_RATIO: Final = 3.0
"""Ratio of edge energies beyond which one picture may be a blurred copy: only what the blur has left is compared."""

# The sharper picture is blurred where it has more than this times the other's energy of edges
_MAX_RATIO: Final = 1.15
_MAX_BLUR: Final = 8.0
_HALVINGS: Final = 6
# Added to both energies, so that two pictures without edges are as sharp
_NO_EDGES: Final = 1e-3


def match_sharpness(here: Plane, there: Plane, where: Mask, max_ratio: float = _MAX_RATIO) -> tuple[Plane, Plane]:
    """Blur the sharper picture until it is as sharp as the other.

    where      pixels by which sharpness is measured
    max_ratio  energy of edges in the one over that in the other up to which both are left as they are
    """
    energy = [_sharpness(plane, where) for plane in (here, there)]
    sharper, target = (here, energy[1]) if energy[0] > energy[1] else (there, energy[0])
    if max(energy) <= max_ratio * target:
        return here, there
    low, high = 0.0, _MAX_BLUR
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _sharpness(np.asarray(cv2.GaussianBlur(sharper, (0, 0), middle)), where) > target:
            low = middle
        else:
            high = middle
    blurred = np.asarray(cv2.GaussianBlur(sharper, (0, 0), (low + high) / 2), dtype=np.float32)
    return (blurred, there) if sharper is here else (here, blurred)


def sharpness_ratio(here: Plane, there: Plane, where: Mask) -> float:
    """Return how many times as much energy of edges the one picture has as the other, for its contrast; 1 if neither.

    where  pixels by which sharpness is measured
    """
    if not where.any():
        return 1.0
    ours, theirs = _sharpness(here, where), _sharpness(there, where)
    return (ours + _NO_EDGES) / (theirs + _NO_EDGES)


def _sharpness(plane: Plane, where: Mask) -> float:
    """Return the energy of edges relative to the contrast."""
    spread = float(plane[where].var())
    return float((cv2.Laplacian(plane, cv2.CV_32F)[where] ** 2).mean()) / max(spread, 1.0)
