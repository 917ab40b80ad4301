"""What differs between a copy and its original beside the map: colours, borders, size."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imagetools.features.extract import THUMB_SIDE, Features
from imagetools.matching import geometry
from imagetools.matching.geometry import Map
from imagetools.matching.planes import Mask

# Mean difference of a pixel's channels, of 255, below which a picture counts as without colour
_MAX_GREY_SPREAD: Final = 3.0
# Shift of a channel, of 255, above which a copy counts as recoloured; JPEG at quality 15 shifts by 2
_MAX_SAME_SHIFT: Final = 6.0


@dataclass(frozen=True)
class Appearance:
    """Differences in appearance between candidate and neighbor.

    covered      share of the overlap hidden on one side
    grey         one is without colour and the other is not
    recoloured   colours or brightness differ
    flat         share of the candidate outside the overlap that is of one shade, 0 to 1; 0 where nothing is outside
    shrunk       candidate's longer side over the neighbor's, original pixels, for a whole picture
    negative     brightness is inverted
    difference   median difference of the overlap's colours, CIE76 ΔE
    around_flat  the same as `flat` for the neighbor
    """

    covered: float
    grey: bool
    recoloured: bool
    flat: float
    shrunk: float
    negative: bool = False
    difference: float = 0.0
    around_flat: float = 0.0


def compare_appearance(
    affine: Map, hole: float, candidate: Features, neighbor: Features, *, negative: bool = False
) -> Appearance:
    """Compare the colour thumbnails where the map lays them over each other.

    affine    from neighbor to candidate, pixels of the fitted images
    hole      largest share of the overlap that disagrees
    negative  one is the other with its brightness inverted
    """
    back = geometry.inverse(affine)
    inside, row, column = _counterparts(back, candidate, neighbor)
    ours, theirs = candidate.colours[inside], neighbor.colours[row[inside], column[inside]]
    if negative:
        theirs = 255 - theirs
    return Appearance(
        covered=hole,
        grey=_is_grey(ours) != _is_grey(theirs),
        recoloured=_is_recoloured(ours, theirs),
        flat=_flat_share(back, candidate, neighbor),
        shrunk=max(candidate.original) / max(neighbor.original),
        negative=negative,
        difference=float(np.median(np.linalg.norm(_lab(ours) - _lab(theirs), axis=1))) if len(ours) else 0.0,
        around_flat=_flat_share(affine, neighbor, candidate),
    )


def _counterparts(affine: Map, ours: Features, theirs: Features) -> tuple[Mask, NDArray[np.intp], NDArray[np.intp]]:
    """Return which cells of our thumbnail lie well inside theirs, and the row and column of each in theirs."""
    cells = (np.arange(THUMB_SIDE) + 0.5) / THUMB_SIDE
    row, column, inside = _places(affine, cells, ours, theirs)
    # a cell on the border shows both sides of it
    inside = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return np.asarray(inside, dtype=np.bool_), row, column


def _flat_share(affine: Map, ours: Features, theirs: Features) -> float:
    """Return the share of what theirs leaves of our thumbnail that is of one shade; 0 where it leaves no cell."""
    _, _, inside = _places(affine, np.arange(THUMB_SIDE + 1) / THUMB_SIDE, ours, theirs)
    around = ours.colours[~(inside[:-1, :-1] | inside[1:, :-1] | inside[:-1, 1:] | inside[1:, 1:])]
    return float((np.abs(around - np.median(around, axis=0)).max(axis=1) < 6).mean()) if len(around) else 0.0


def _places(
    affine: Map, shares: NDArray[np.float64], ours: Features, theirs: Features
) -> tuple[NDArray[np.intp], NDArray[np.intp], Mask]:
    """Map a grid over our picture, at these shares of its sides, to rows and columns of their thumbnail."""
    at = (shares * ours.width - 0.5) + 1j * (shares[:, np.newaxis] * ours.height - 0.5)
    to = geometry.apply(affine, at)
    column = np.floor((to.real + 0.5) * THUMB_SIDE / theirs.width).astype(np.intp)
    row = np.floor((to.imag + 0.5) * THUMB_SIDE / theirs.height).astype(np.intp)
    return row, column, (np.minimum(row, column) >= 0) & (np.maximum(row, column) < THUMB_SIDE)


def _lab(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return RGB colours of 0 to 255, (n, 3), in CIE L*a*b*."""
    return np.asarray(cv2.cvtColor(colours[np.newaxis] / np.float32(255), cv2.COLOR_RGB2LAB)[0], dtype=np.float32)


def _is_grey(colours: NDArray[np.float32]) -> bool:
    return bool(len(colours)) and float(np.ptp(colours, axis=1).mean()) < _MAX_GREY_SPREAD


def _is_recoloured(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> bool:
    """Tell whether most of the overlap has changed its colours alike, and not only what lies on it."""
    if not len(ours):
        return False
    shift = np.abs(np.median(ours - theirs, axis=0)).max()
    return bool(max(shift, np.median(np.abs(ours - theirs).max(axis=1)) / 2) > _MAX_SAME_SHIFT)
