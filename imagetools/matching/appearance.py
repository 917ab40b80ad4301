"""What differs between a copy and its original beside the map: colours, borders, size."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imagetools.features.extract import THUMB_SIDE, Features
from imagetools.matching import geometry
from imagetools.matching.geometry import Map

# Mean difference of a pixel's channels, of 255, below which a picture counts as without colour
_MAX_GREY_SPREAD: Final = 3.0
# Shift of a channel, of 255, above which a copy counts as recoloured; JPEG at quality 15 shifts by 2
_MAX_SAME_SHIFT: Final = 6.0


@dataclass(frozen=True)
class Appearance:
    """Differences in appearance between candidate and neighbor.

    covered     share of the overlap hidden on one side
    grey        one is without colour and the other is not
    recoloured  colours or brightness differ
    flat        share of the candidate outside the overlap that is of one shade, 0 to 1
    negative    brightness is inverted
    shrunk      candidate's longer side over the neighbor's, original pixels, for a whole picture
    """

    covered: float
    grey: bool
    recoloured: bool
    flat: float
    shrunk: float
    negative: bool = False


def compare_appearance(
    affine: Map, hole: float, candidate: Features, neighbor: Features, *, negative: bool = False
) -> Appearance:
    """Compare the colour thumbnails where the map lays them over each other.

    affine    from neighbor to candidate, pixels of the fitted images
    hole      largest share of the overlap that disagrees
    negative  one is the other with its brightness inverted
    """
    cells = (np.arange(THUMB_SIDE) + 0.5) / THUMB_SIDE
    at = (cells * candidate.width - 0.5) + 1j * (cells[:, np.newaxis] * candidate.height - 0.5)
    from_at = geometry.apply(geometry.inverse(affine), at)
    column = np.floor((from_at.real + 0.5) * THUMB_SIDE / neighbor.width).astype(np.intp)
    row = np.floor((from_at.imag + 0.5) * THUMB_SIDE / neighbor.height).astype(np.intp)
    inside = (np.minimum(row, column) >= 0) & (np.maximum(row, column) < THUMB_SIDE)
    # a cell on the border shows both sides of it
    well_inside, outside = (
        cv2.erode(side.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for side in (inside, ~inside)
    )
    ours, theirs = candidate.colours[well_inside], neighbor.colours[row[well_inside], column[well_inside]]
    if negative:
        theirs = 255 - theirs
    around = candidate.colours[outside]
    return Appearance(
        covered=hole,
        grey=_is_grey(ours) != _is_grey(theirs),
        recoloured=_is_recoloured(ours, theirs),
        flat=float((np.abs(around - np.median(around, axis=0)).max(axis=1) < 6).mean()) if len(around) else 0.0,
        shrunk=max(candidate.original) / max(neighbor.original),
        negative=negative,
    )


def _is_grey(colours: NDArray[np.float32]) -> bool:
    return bool(len(colours)) and float(np.ptp(colours, axis=1).mean()) < _MAX_GREY_SPREAD


def _is_recoloured(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> bool:
    """Tell whether most of the overlap has changed its colours alike, and not only what lies on it."""
    if not len(ours):
        return False
    shift = np.abs(np.median(ours - theirs, axis=0)).max()
    return bool(max(shift, np.median(np.abs(ours - theirs).max(axis=1)) / 2) > _MAX_SAME_SHIFT)
