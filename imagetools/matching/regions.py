"""Group the spots where two pictures disagree into regions."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from imagetools.matching.ink import MIN_INK, MIN_REGION, InkComparison
from imagetools.matching.planes import Grey, Mask

PixelBox = tuple[int, int, int, int]
"""Left, top, right and bottom in a frame, pixels; right and bottom are the first outside."""

# A region counts only if the correlation falls to this somewhere in it; in a scan of the same page it seldom does
_MAX_CORRELATION: Final = 0.35
# A spot is unusual if `InkComparison.outside` exceeds a limit. Spots of clean copies stay below .22. For a noisy pair
# the limit rises to _UNUSUAL_FACTOR times what _USUAL_SHARE of the spots that agree stay below, or to _MAX_LIMIT
_MIN_OUTSIDE: Final = 0.22
_USUAL_SHARE: Final = 0.995
_UNUSUAL_FACTOR: Final = 2.0
_MAX_LIMIT: Final = 0.35
_MIN_SPOTS: Final = 3


@dataclass(frozen=True)
class Region:
    """A connected region of the frame in which the pictures disagree.

    area   number of pixels that disagree
    ink    share of its ink that is in the first picture, 0 to 1
    cover  whether it is a patch, a bar or a sticker on one picture
    """

    box: PixelBox
    area: int
    ink: float
    cover: bool = False


def find_regions(compared: InkComparison) -> list[Region]:
    """Return the connected regions that disagree, largest first; single spots are noise."""
    bad = (compared.ink & ~compared.agrees).astype(np.uint8)
    bad = np.asarray(cv2.morphologyEx(bad, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), dtype=np.uint8)
    regions, known = [], np.zeros(bad.shape, dtype=np.bool_)
    for box, where, inside in _connected(bad, MIN_REGION):
        if float(compared.correlation[where][inside].min()) <= _MAX_CORRELATION:
            first, second = (int((plane[where][inside] > MIN_INK).sum()) for plane in (compared.first, compared.second))
            regions.append(Region(box, int(inside.sum()), first / (first + second)))
            known[where] |= inside
    # ink 0.5, half in each picture: a letter that differs among others may be replaced rather than added
    regions += [
        Region(box, int(inside.sum()), 0.5)
        for box, where, inside in _connected(_unusual(compared), _MIN_SPOTS)
        if min(inside.shape) > 1 and not known[where][inside].any()
    ]
    return sorted(regions, key=lambda region: -region.area)


def _connected(bad: Grey, min_area: int) -> list[tuple[PixelBox, tuple[slice, slice], Mask]]:
    """Return box, rows and columns, and the mask in them, of each region of at least `min_area` pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(bad, connectivity=8)
    found = []
    for number in range(1, count):
        left, top, width, height, area = stats[number].tolist()
        if area >= min_area:
            where = slice(top, top + height), slice(left, left + width)
            found.append(((left, top, left + width, top + height), where, np.asarray(labels[where] == number)))
    return found


def _unusual(compared: InkComparison) -> Grey:
    outside = compared.outside[compared.agrees]
    if not len(outside):
        return np.zeros(compared.outside.shape, dtype=np.uint8)
    limit = min(max(_MIN_OUTSIDE, _UNUSUAL_FACTOR * float(np.quantile(outside, _USUAL_SHARE))), _MAX_LIMIT)
    return (compared.outside > limit).astype(np.uint8)
