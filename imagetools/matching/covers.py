"""Recognise patches, bars and stickers that lie on one of two pictures, among the regions that disagree."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from imagetools.matching.ink import WINDOW
from imagetools.matching.planes import Grey, Plane
from imagetools.matching.regions import Region

# A cover takes at least and at most these shares of the frame, and its region this share of its box
_MIN_SIZE: Final = 0.02
_MAX_SIZE: Final = 0.5
_MIN_FILLED: Final = 0.25
# Its sides are edges along more than this share of their length in one picture, along less than that in the other, and
# each side along this much more of it
_MIN_EDGED: Final = 0.5
_MAX_UNEDGED: Final = 0.3
_MIN_DIFFERENCE: Final = 0.15
# Step between two pixels, in grey levels, that counts as an edge
_STEP: Final = 8.0


def merge_covers(regions: list[Region], source: Grey, target: Grey) -> list[Region]:
    """Return the regions, those that lie in one cover replaced by that cover."""
    if not regions:
        return regions
    boxes = np.array([region.box for region in regions])
    hull = (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())
    height, width = source.shape
    # a bar runs from side to side, and ends at the border that it is near
    bar = 0, hull[1] if hull[1] > height / 10 else 0, width, hull[3] if hull[3] < height * 0.9 else height
    area = sum(region.area for region in regions)
    for one in (Region(hull, area, 0.5), Region(bar, area, 0.5), regions[0]):
        cover = _as_cover(one, source, target)
        if cover.cover:
            left, top, right, bottom = cover.box
            near = (boxes[:, 0] >= left - WINDOW) & (boxes[:, 1] >= top - WINDOW)
            near &= (boxes[:, 2] <= right + WINDOW) & (boxes[:, 3] <= bottom + WINDOW)
            return [cover, *(region for region, inside in zip(regions, near, strict=True) if not inside)]
    return regions


def _as_cover(region: Region, source: Grey, target: Grey) -> Region:
    """Return the region marked as a cover of the picture that it lies on, or as it is.

    A cover's sides are edges in the picture that it lies on; a photo in a page, or an entry in a box, has its frame in
    both.
    """
    left, top, right, bottom = region.box
    box = (right - left) * (bottom - top)
    if not _MIN_SIZE <= box / source.size <= _MAX_SIZE or region.area < _MIN_FILLED * box:
        return region
    edged = [_edged_sides(region, picture) for picture in (source, target)]
    for ink, (ours, theirs) in ((1.0, edged), (0.0, edged[::-1])):
        clear = all(one > other + _MIN_DIFFERENCE for one, other in zip(ours, theirs, strict=True))
        if ours and clear and np.mean(ours) > _MIN_EDGED and np.mean(theirs) < _MAX_UNEDGED:
            return replace(region, ink=ink, cover=True)
    return region


def _edged_sides(region: Region, picture: Grey) -> Sequence[float]:
    """Return along which share of its length each side of the region is an edge; none for sides at the border."""
    height, width = picture.shape
    left, top, right, bottom = region.box
    image = picture.astype(np.float32)
    lying = [_edge(image[:, left:right], at) for at in (top, bottom) if WINDOW < at < height - WINDOW]
    standing = [_edge(image[top:bottom].T, at) for at in (left, right) if WINDOW < at < width - WINDOW]
    return lying + standing


def _edge(image: Plane, at: int) -> float:
    """Return along which share of its length the clearest row near `at` is an edge."""
    steps = (np.abs(np.diff(image[max(0, at - WINDOW) : at + WINDOW], axis=0)) > _STEP).mean(axis=1)
    return float(steps.max() - np.median(steps)) if len(steps) else 0.0
