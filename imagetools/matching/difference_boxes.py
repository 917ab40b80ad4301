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
    while len(groups := np.unique(numbers := _groups(boxes))) < len(boxes):
        members = [boxes[numbers == group] for group in groups]
        boxes = np.array([np.concatenate([m[:, :, :2].min(axis=0), m[:, :, 2:].max(axis=0)], 1) for m in members])
    largest = np.argsort(-_areas(boxes).sum(axis=1), kind="stable")
    return tuple((tuple(first), tuple(second)) for first, second in boxes[largest].tolist())


def _groups(boxes: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return a number for each of the boxes (n, 2, 4), the same for those that lie together in both pictures."""
    one, two = boxes[:, np.newaxis], boxes[np.newaxis]
    top_left, bottom_right = np.maximum(one[..., :2], two[..., :2]), np.minimum(one[..., 2:], two[..., 2:])
    near = (top_left - bottom_right <= _MAX_GAPS).all(axis=(2, 3))
    common = np.concatenate([np.minimum(one[..., :2], two[..., :2]), np.maximum(one[..., 2:], two[..., 2:])], axis=-1)
    areas = _areas(boxes)
    small = (_areas(common) <= _MAX_GROWTH * (areas[:, np.newaxis] + areas)).all(axis=2)
    together = near & small
    numbers = np.arange(len(boxes))
    # each takes the least number among its neighbors until all of a group have the same
    while ((least := np.where(together, numbers, len(boxes)).min(axis=1)) < numbers).any():
        numbers = least
    return numbers


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return areas
