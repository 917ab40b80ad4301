"""What differs between a copy and its original beside the map: colours, borders, size."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from imagetools.features.extract import THUMB_SIDE, Features
from imagetools.matching import geometry
from imagetools.matching.colours import ColourChange
from imagetools.matching.geometry import Map

# Difference of colours, CIE76 ΔE, from which they were adjusted. Of 40 photos in 17 edits, JPEG at quality 15 leaves up
# to 2.2, crops and screenshots up to 1.4; in a collage one in twenty exceeds 2.6
_MIN_ADJUSTED: Final = 3.0


@dataclass(frozen=True)
class Appearance:
    """Differences in appearance between candidate and neighbor.

    covered      share of the overlap hidden on one side
    colours      how the colours differ
    flat         share of the candidate outside the overlap that is of one shade, 0 to 1; 0 where nothing is outside
    around_flat  the same of the neighbor
    shrunk       candidate's longer side over the neighbor's, original pixels, for a whole picture
    negative     brightness is inverted
    equal        the pixels are equal
    """

    covered: float
    colours: ColourChange
    flat: float
    around_flat: float
    shrunk: float
    negative: bool = False
    equal: bool = False

    @property
    def adjusted(self) -> bool:
        """Whether the colours differ, but no hue: other brightness, contrast, saturation or tint."""
        return self.colours.difference >= _MIN_ADJUSTED and not (self.colours.hue or self.colours.grey)


def compare_appearance(
    affine: Map, hole: float, colours: ColourChange, candidate: Features, neighbor: Features, *, negative: bool = False
) -> Appearance:
    """Compare what lies around the overlap, and the sizes.

    affine    from neighbor to candidate, pixels of the fitted images
    hole      largest share of the overlap that disagrees
    negative  one is the other with its brightness inverted
    """
    return Appearance(
        covered=hole,
        colours=colours,
        flat=_flat_share(geometry.inverse(affine), candidate, neighbor),
        around_flat=_flat_share(affine, neighbor, candidate),
        shrunk=max(candidate.original) / max(neighbor.original),
        negative=negative,
        equal=is_equal(candidate, neighbor),
    )


def is_equal(one: Features, two: Features) -> bool:
    """Tell whether two pictures have equal pixels, as far as features tell."""
    return one.key == two.key and one.original == two.original


def _flat_share(affine: Map, ours: Features, theirs: Features) -> float:
    """Return the share of what theirs leaves of our thumbnail that is of one shade; 0 where it leaves no cell."""
    corners = np.arange(THUMB_SIDE + 1) / THUMB_SIDE
    at = (corners * ours.width - 0.5) + 1j * (corners[:, np.newaxis] * ours.height - 0.5)
    to = geometry.apply(affine, at)
    inside = (np.minimum(to.real, to.imag) > -0.5) & (to.real < theirs.width - 0.5) & (to.imag < theirs.height - 0.5)
    around = ours.colours[~(inside[:-1, :-1] | inside[1:, :-1] | inside[:-1, 1:] | inside[1:, 1:])]
    return float((np.abs(around - np.median(around, axis=0)).max(axis=1) < 6).mean()) if len(around) else 0.0
