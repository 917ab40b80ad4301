"""Merge the boxes of what differs, so that a word or an entry is one box and not one for each letter."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagetools.matching.detail import Box

BoxPair = tuple[Box, Box]
"""One region in the first and in the second picture."""

# Of many hundreds of regions the largest are merged
_MAX_MERGED: Final = 256
# Gap across, a letter's width, and down, less than between lines, as shares of a picture's width and height
_MAX_GAPS: Final = (0.02, 0.012)
# Two boxes whose common box is larger than both by this factor are two places
_MAX_GROWTH: Final = 1.6


def merge_boxes(pairs: Sequence[BoxPair]) -> tuple[BoxPair, ...]:
    """Return boxes without those that lie close together in both pictures, which become one; largest first.

    pairs  largest first
    """
    if not pairs:
        return ()
    boxes = np.array(pairs[:_MAX_MERGED], dtype=np.float64)
    while len(groups := _groups(boxes)) < len(boxes):
        boxes = np.array(
            [np.concatenate([boxes[group, :, :2].min(axis=0), boxes[group, :, 2:].max(axis=0)], 1) for group in groups]
        )
    largest = np.argsort(-_areas(boxes).sum(axis=1), kind="stable")
    return tuple((tuple(first), tuple(second)) for first, second in boxes[largest].tolist())


def _groups(boxes: NDArray[np.float64]) -> list[list[int]]:
    """Return the numbers of boxes (n, 2, 4) that belong together, in both pictures."""
    one, two = boxes[:, np.newaxis], boxes[np.newaxis]
    top_left, bottom_right = np.maximum(one[..., :2], two[..., :2]), np.minimum(one[..., 2:], two[..., 2:])
    near = (top_left - bottom_right <= _MAX_GAPS).all(axis=(2, 3))
    common = np.concatenate([np.minimum(one[..., :2], two[..., :2]), np.maximum(one[..., 2:], two[..., 2:])], axis=-1)
    areas = _areas(boxes)
    small = (_areas(common) <= _MAX_GROWTH * (areas[:, np.newaxis] + areas)).all(axis=2)
    rows, columns = np.nonzero(near & small)
    return _components(len(boxes), rows, columns)


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return areas


def _components(count: int, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> list[list[int]]:
    first = list(range(count))
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        one, two = first[row], first[column]
        if one != two:
            first = [min(one, two) if number in (one, two) else number for number in first]
    groups: dict[int, list[int]] = {}
    for number, group in enumerate(first):
        groups.setdefault(group, []).append(number)
    return list(groups.values())
