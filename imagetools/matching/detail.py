"""What two pictures show where their detail is resolved: the same, the same template with other content, or more.

At the 256 pixels that are kept, a page of a thousand shows that it is a form, and not what is filled in. Here one
picture is laid over the other at its own size, the map is moved to where they fit best, and every spot with ink is
looked for in the other picture. What disagrees is grouped into regions, each with the picture that its ink is in.
"""

from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imagetools.matching import geometry
from imagetools.matching.covers import merge_covers
from imagetools.matching.geometry import Map
from imagetools.matching.ink import MIN_INK, WINDOW, InkComparison, compare_ink, deviation, smoothed
from imagetools.matching.planes import Grey
from imagetools.matching.regions import Region, find_regions
from imagetools.matching.registration import Registration, register, shrunk
from imagetools.matching.sheets import compare_sheets
from imagetools.matching.stripes import find_stripe

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as shares of a picture's width and height."""

Relation = Literal[
    "same picture", "same template, other content", "one contains the other", "both are blank", "unclear"
]

SIDE: Final = 1500
"""Pixels of the longer side at most: print of ten pixels in a page of a thousand is resolved, that of a poster not."""

# A region where one picture has ink on less than this part of it is an addition of the other
_MAX_ABSENT: Final = 0.15
# A picture with ink on less than this part of it is nearly blank
_NEARLY_BLANK: Final = 0.02
# Range of a tiny thumbnail, in grey levels, up to which a picture without ink is blank and not merely smooth
_MAX_BLANK_RANGE: Final = 1.0
_THUMB: Final = 16


@dataclass(frozen=True)
class Difference:
    """A region in which the pictures disagree.

    first   where it is in the first picture
    second  where it is in the second
    ink     share of what is there that is in the first picture, 0 to 1: near 1 or 0 where one picture has an addition
    """

    first: Box
    second: Box
    ink: float


@dataclass(frozen=True)
class Detail:
    """Result of comparing two pictures in detail.

    relation     "unclear" where neither picture has any ink on the overlap
    agreement    share of what has ink that agrees, 0 to 1
    differences  the regions that disagree, largest first
    affine       the map from the first picture to the second, moved to where they fit best
    """

    relation: Relation
    agreement: float
    differences: tuple[Difference, ...]
    affine: Map

    def turned(self) -> "Detail":
        """Return the same with first and second exchanged."""
        turned = tuple(Difference(one.second, one.first, 1 - one.ink) for one in self.differences)
        return Detail(self.relation, self.agreement, turned, geometry.inverse(self.affine))


def examine(first: Grey, second: Grey, affine: Map) -> Detail:
    """Compare two grey pictures by a map from the first to the second, in their pixels.

    - Both blank: "both are blank". One blank, the other not: "same template, other content".
    - Ink in one picture alone, beside more that agrees, was added to a copy: "one contains the other".
    - Ink of both without a counterpart, or more added than in common: "same template, other content".
    - Nearly blank sheets: "same picture" only with the same marks in the same place.
    """
    if geometry.scale_of(affine) > 1:
        # the sharper picture is brought to what the other can show
        return examine(second, first, geometry.inverse(affine)).turned()
    shares = ink_share(first), ink_share(second)
    blank = [share == 0 and _is_even(picture) for share, picture in zip(shares, (first, second), strict=True)]
    if any(blank):
        return Detail("both are blank" if all(blank) else "same template, other content", float(all(blank)), (), affine)
    if 0 < sum(shares) < _NEARLY_BLANK:
        # what can be told without the map needs none
        return _examine_sheets(first, second, affine)
    frame = register(first, second, affine, SIDE)
    compared = compare_ink(frame.source, frame.target, frame.valid)
    if 0 < compared.ink.mean() < _NEARLY_BLANK:
        return _examine_sheets(first, second, frame.affine)
    regions = merge_covers(find_regions(compared), frame.source, frame.target)
    relation = _relation(regions, compared)
    if relation == "same template, other content":
        around = _around_stripe(compared, frame)
        if around is not None:
            relation, (regions, compared) = "one contains the other", around
    differences = tuple(_difference(region, frame, first, second) for region in regions)
    return Detail(relation, compared.agreement, differences, frame.affine)


def _around_stripe(compared: InkComparison, frame: Registration) -> tuple[list[Region], InkComparison] | None:
    """Return the regions, and what agrees, if one picture is a copy of the other with a stripe across it, or None.

    All around the stripe must be a copy by itself, and show at least as much as the stripe hides.
    """
    stripe = find_stripe(frame.source, frame.target)
    if stripe is None:
        return None
    # a window beside the stripe still sees it
    reach = np.ones((2 * WINDOW + 1, 2 * WINDOW + 1), np.uint8)
    left = cv2.dilate(stripe.mask.astype(np.uint8), reach) == 0
    hidden = (compared.second if stripe.in_first else compared.first) > MIN_INK
    around = compare_ink(frame.source, frame.target, np.asarray(frame.valid & left, dtype=np.bool_))
    if np.count_nonzero(around.agrees) < np.count_nonzero(hidden & stripe.mask):
        return None
    rows, columns = (np.flatnonzero(stripe.mask.any(axis=axis)) for axis in (1, 0))
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    cover = Region(box, int(np.count_nonzero(stripe.mask)), float(stripe.in_first), cover=True)
    regions = merge_covers(find_regions(around), frame.source, frame.target)
    is_copy = _relation(regions, around) in ("same picture", "one contains the other")
    # what was added beside the stripe is on the picture that has it
    if not is_copy or _relation([cover, *regions], around) != "one contains the other":
        return None
    return [cover, *regions], around


def _examine_sheets(first: Grey, second: Grey, affine: Map) -> Detail:
    agrees = compare_sheets(first, second, SIDE) if _is_upright(affine) else None
    if agrees is None:
        return Detail("same template, other content", 0.0, (), affine)
    return Detail("same picture", agrees, (), affine)


def is_blank(picture: Grey) -> bool:
    """Tell whether a picture has nothing on it: paper, one colour, a page of nothing but noise."""
    return ink_share(picture) == 0 and _is_even(picture)


def ink_share(picture: Grey) -> float:
    """Return the share of a picture that has ink, 0 to 1."""
    small, _ = shrunk(picture, SIDE / max(picture.shape))
    return float((deviation(smoothed(small)) >= MIN_INK).mean())


def _is_even(picture: Grey) -> bool:
    thumb = cv2.resize(picture, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)
    return bool(np.ptp(thumb) <= _MAX_BLANK_RANGE)


def _is_upright(affine: Map) -> bool:
    across, down, aside = affine[0, 0], affine[1, 1], np.abs([affine[0, 1], affine[1, 0]]).max()
    return bool(min(across, down) > 2 * aside)


def _relation(regions: list[Region], compared: InkComparison) -> Relation:
    if not compared.ink.any():
        return "unclear"
    if not regions:
        return "same picture"
    differing = sum(region.area for region in regions)
    in_first = all(region.ink > 1 - _MAX_ABSENT for region in regions)
    in_second = all(region.ink < _MAX_ABSENT for region in regions)
    covered = any(region.cover for region in regions)
    if (in_first or in_second) and (covered or differing < np.count_nonzero(compared.agrees)):
        return "one contains the other"
    return "same template, other content"


def _difference(region: Region, frame: Registration, first: Grey, second: Grey) -> Difference:
    left, top, right, bottom = region.box
    corners = np.array([left + 1j * top, right + 1j * top, left + 1j * bottom, right + 1j * bottom], np.complex64)
    corners -= np.complex64(0.5 + 0.5j)
    in_second = geometry.apply(geometry.inverse(frame.into_frame), corners)
    in_first = geometry.apply(geometry.inverse(frame.affine), in_second.astype(np.complex64))
    return Difference(_box(in_first, first), _box(in_second, second), region.ink)


def _box(corners: NDArray[np.complex128], picture: Grey) -> Box:
    height, width = picture.shape
    x, y = np.clip((corners.real + 0.5) / width, 0, 1), np.clip((corners.imag + 0.5) / height, 0, 1)
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())
