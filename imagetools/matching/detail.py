"""What two pictures show where their detail is resolved: the same, the same template with other content, or more.

Kept at 256 pixels, a page of a thousand says that it is a form, and not what is filled in. Here one picture is laid
over the other at its own size, the map is moved to where they fit best, and every spot that has anything on it is asked
whether the other picture has it too. What disagrees is grouped into regions, each with the picture that its ink is in.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imagetools.matching import geometry
from imagetools.matching.geometry import Map
from imagetools.matching.registration import Grey, lay_over, shrunk

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as shares of a picture's width and height."""

Relation = Literal[
    "same picture", "same template, other content", "one contains the other", "both are blank", "unclear"
]

SIDE: Final = 1500
"""Pixels of the longer side at most: print of ten pixels in a page of a thousand is resolved, that of a poster not."""

# Pixels of a window: two letters of the smallest print that a scan leaves readable
_WINDOW: Final = 13
# Deviation within a window, in grey levels, from which there is something on it; noise and JPEG stay below
_INK: Final = 12.0
_NOISE: Final = np.float32(2.5)
_SMOOTH: Final = 0.7
_AGREES: Final = 0.6
# Pixels that a stroke may lie off
_LEEWAY: Final = 1
# Pixels of a region that disagrees, and the correlation that it falls to; of true scans few spots reach either
_REGION: Final = 60
_DISAGREES: Final = 0.35
# A region where one picture has ink on less than this part of it is an addition of the other
_ABSENT: Final = 0.15
# What lies outside the other picture's levels around a spot, as a share of the range of both: of copies less than .22,
# but for noise, which the pair itself shows: of its spots with ink, this share is below that
_OUTSIDE: Final = 0.22
_USUAL: Final = 0.995
_UNUSUAL: Final = 2.0
_LEAST_USUAL: Final = 0.35
_FAINTEST: Final = 60.0
_SPOTS: Final = 3
# Pixels at the border, where resizing has its own ways
_BORDER: Final = 6
# A picture with ink on less than this part of it is nearly blank: what little there is has one place and size
_LITTLE: Final = 0.02
_AS_MUCH: Final = 1.3
_DARK: Final = 0.25
# Pixels over which paper and light may change
_LIGHT: Final = 31
# The sharper picture is blurred where it has more than this times the other's energy of edges
_SHARPER: Final = 1.15
_BLURRED: Final = 3.0
_MOST_BLUR: Final = 8.0
_HALVINGS: Final = 6
# A cover: a region that is so large a part of the frame, fills so much of its box, and whose sides are edges along so
# much of their length in one picture, and along no more than so much in the other
_COVER: Final = 0.02
_LARGEST_COVER: Final = 0.5
_FILLS: Final = 0.25
_EDGED: Final = 0.5
_UNEDGED: Final = 0.3
_CLEARER: Final = 0.15
_STEP: Final = 8.0
# Range of a tiny thumbnail, in grey levels, up to which a picture without ink is blank and not merely smooth
_BLANK: Final = 1.0
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
    """What the comparison says.

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

    Two blank pictures are "both are blank"; one, and one with ink, other content. What is in one picture alone, over
    more that agrees, was added to a copy: "one contains the other". Where ink of both has no counterpart, or there is
    more in addition than there is in common, the template is the same and the content another.
    """
    first_blank, second_blank = is_blank(first), is_blank(second)
    if first_blank and second_blank:
        return Detail("both are blank", 1.0, (), affine)
    if first_blank or second_blank:
        return Detail("same template, other content", 0.0, (), affine)
    if geometry.scale_of(affine) > 1:
        # the sharper picture is brought to what the other can show
        return examine(second, first, geometry.inverse(affine)).turned()
    laid = lay_over(first, second, affine, SIDE)
    compared = _compared(laid.source, laid.target, laid.valid)
    if 0 < compared.ink.mean() < _LITTLE and not (_is_upright(affine) and _as_much(laid.source, laid.target)):
        return Detail("same template, other content", 0.0, (), laid.affine)
    regions = _without_covers(_regions(compared), laid.source, laid.target)
    differences = tuple(_difference(region, laid.affine, laid.into_frame, first, second) for region in regions)
    return Detail(_relation(regions, compared), compared.agreement, differences, laid.affine)


def is_blank(picture: Grey) -> bool:
    """Tell whether a picture has nothing on it: paper, one colour, a page of nothing but noise."""
    small, _ = shrunk(picture, SIDE / max(picture.shape))
    thumb = cv2.resize(small, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)
    return bool(np.ptp(thumb) <= _BLANK and float(_deviation(_smoothed(small)).max()) < _INK)


def _is_upright(affine: Map) -> bool:
    across, down, aside = affine[0, 0], affine[1, 1], np.abs([affine[0, 1], affine[1, 0]]).max()
    return bool(min(across, down) > 2 * aside)


def _as_much(source: Grey, target: Grey) -> bool:
    """Tell whether both pictures have as much on them, in pixels as dark as the darkest, or nearly."""
    amounts = []
    for picture in (source, target):
        off = np.abs(_smoothed(picture) - np.float32(np.median(picture)))
        amounts.append(1 + np.count_nonzero(off > _DARK * off.max()))
    return bool(max(amounts) <= _AS_MUCH * min(amounts))


@dataclass(frozen=True)
class _Compared:
    """Planes of the frame: local correlation, the deviation of both pictures, where there is ink, where it agrees."""

    correlation: Plane
    first: Plane
    second: Plane
    ink: Mask
    agrees: Mask
    outside: Plane

    @property
    def agreement(self) -> float:
        ink = int(np.count_nonzero(self.ink))
        return float(np.count_nonzero(self.agrees)) / ink if ink else 1.0


@dataclass(frozen=True)
class _Region:
    box: tuple[int, int, int, int]
    area: int
    ink: float
    cover: bool = False


def _compared(source: Grey, target: Grey, valid: Mask) -> _Compared:
    here, there = _smoothed(source), _smoothed(target)
    everywhere = valid & (np.maximum(_deviation(here), _deviation(there)) > _INK)
    if everywhere.any():
        # of a blurred copy only what the blur has left can be compared
        here, there = _equally_sharp(here, there, everywhere, _BLURRED)
    first, second = _deviation(here), _deviation(there)
    ink = (np.maximum(first, second) > _INK) & valid
    correlation = _correlation(here, there, first, second, ink)
    agrees = ink & (correlation >= _AGREES)
    return _Compared(correlation, first, second, ink, agrees, _outside(here, there, ink, agrees))


def _regions(compared: _Compared) -> list[_Region]:
    """Return the connected regions that disagree, largest first; single spots are noise."""
    bad = (compared.ink & ~compared.agrees).astype(np.uint8)
    bad = np.asarray(cv2.morphologyEx(bad, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), dtype=np.uint8)
    regions, known = [], np.zeros(bad.shape, dtype=np.bool_)
    for box, where, inside in _connected(bad, _REGION):
        if float(compared.correlation[where][inside].min()) <= _DISAGREES:
            first, second = (int((plane[where][inside] > _INK).sum()) for plane in (compared.first, compared.second))
            regions.append(_Region(box, int(inside.sum()), first / (first + second)))
            known[where] |= inside
    # a letter more or less near others is no addition: it may be another letter
    regions += [
        _Region(box, int(inside.sum()), 0.5)
        for box, where, inside in _connected(_unusual(compared), _SPOTS)
        if min(inside.shape) > 1 and not known[where][inside].any()
    ]
    return sorted(regions, key=lambda region: -region.area)


def _without_covers(regions: list[_Region], source: Grey, target: Grey) -> list[_Region]:
    """Return the regions, those that lie in one cover as that cover."""
    if not regions:
        return regions
    boxes = np.array([region.box for region in regions])
    hull = (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())
    height, width = source.shape
    # a bar runs from side to side, and ends at the border that it is near
    bar = 0, hull[1] if hull[1] > height / 10 else 0, width, hull[3] if hull[3] < height * 0.9 else height
    area = sum(region.area for region in regions)
    for one in (_Region(hull, area, 0.5), _Region(bar, area, 0.5), regions[0]):
        cover = _covered(one, source, target)
        if cover.cover:
            left, top, right, bottom = cover.box
            near = (boxes[:, 0] >= left - _WINDOW) & (boxes[:, 1] >= top - _WINDOW)
            near &= (boxes[:, 2] <= right + _WINDOW) & (boxes[:, 3] <= bottom + _WINDOW)
            return [cover, *(region for region, inside in zip(regions, near, strict=True) if not inside)]
    return regions


def _covered(region: _Region, source: Grey, target: Grey) -> _Region:
    """Return the region as one picture's alone where it is a patch, a bar or a sticker that lies on that picture.

    Its sides are edges in the picture that it lies on; a photo in a page, or an entry in a box, has its frame in both.
    """
    height, width = source.shape
    left, top, right, bottom = region.box
    box = (right - left) * (bottom - top)
    if not _COVER <= box / source.size <= _LARGEST_COVER or region.area < _FILLS * box:
        return region
    edged = []
    for picture in (source, target):
        image = picture.astype(np.float32)
        lying = [_edge(image[:, left:right], at) for at in (top, bottom) if _WINDOW < at < height - _WINDOW]
        standing = [_edge(image[top:bottom].T, at) for at in (left, right) if _WINDOW < at < width - _WINDOW]
        edged.append(lying + standing)
    for ink, (ours, theirs) in ((1.0, edged), (0.0, edged[::-1])):
        clear = all(one > other + _CLEARER for one, other in zip(ours, theirs, strict=True))
        if ours and clear and np.mean(ours) > _EDGED and np.mean(theirs) < _UNEDGED:
            return replace(region, ink=ink, cover=True)
    return region


def _edge(image: Plane, at: int) -> float:
    """Return along which share of its length the clearest row near `at` is an edge."""
    steps = (np.abs(np.diff(image[max(0, at - _WINDOW) : at + _WINDOW], axis=0)) > _STEP).mean(axis=1)
    return float(steps.max() - np.median(steps)) if len(steps) else 0.0


def _connected(bad: Grey, least: int) -> list[tuple[tuple[int, int, int, int], tuple[slice, slice], Mask]]:
    """Return box, rows and columns, and the mask in them, of each region of at least this many pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(bad, connectivity=8)
    found = []
    for number in range(1, count):
        left, top, width, height, area = stats[number].tolist()
        if area >= least:
            where = slice(top, top + height), slice(left, left + width)
            found.append(((left, top, left + width, top + height), where, np.asarray(labels[where] == number)))
    return found


def _unusual(compared: _Compared) -> Grey:
    outside = compared.outside[compared.agrees]
    if not len(outside):
        return np.zeros(compared.outside.shape, dtype=np.uint8)
    limit = min(max(_OUTSIDE, _UNUSUAL * float(np.quantile(outside, _USUAL))), _LEAST_USUAL)
    return (compared.outside > limit).astype(np.uint8)


def _outside(here: Plane, there: Plane, ink: Mask, agrees: Mask) -> Plane:
    """Return by how much each spot of either picture lies outside the levels of the other around it.

    Both are brought to the same contrast, light and sharpness first, by what agrees.
    """
    if np.count_nonzero(agrees) < _REGION:
        return np.zeros(here.shape, dtype=np.float32)
    here = here * np.float32(there[agrees].std() / max(float(here[agrees].std()), 1e-3))
    here, there = _equally_sharp(here, there, agrees)
    here = here + cv2.blur(there - here, (_LIGHT, _LIGHT), borderType=cv2.BORDER_REFLECT)
    around = np.ones((2 * _LEEWAY + 1, 2 * _LEEWAY + 1), np.uint8)
    window = np.ones((_WINDOW, _WINDOW), np.uint8)
    off = np.zeros(here.shape, dtype=np.float32)
    contrast = np.full(here.shape, _FAINTEST, dtype=np.float32)
    for one, other in ((here, there), (there, here)):
        off = np.maximum(off, np.maximum(one - cv2.dilate(other, around), cv2.erode(other, around) - one))
        contrast = np.maximum(contrast, cv2.dilate(one, window) - cv2.erode(one, window))
    within = np.zeros(here.shape, dtype=np.float32)
    within[_BORDER:-_BORDER, _BORDER:-_BORDER] = 1
    return np.asarray(off / contrast * ink * within, dtype=np.float32)


def _equally_sharp(here: Plane, there: Plane, where: Mask, sharper: float = _SHARPER) -> tuple[Plane, Plane]:
    """Blur the sharper picture until it is as sharp as the other, where it is more than this many times as sharp."""
    energy = [_sharpness(plane, where) for plane in (here, there)]
    blurred, least = (here, energy[1]) if energy[0] > energy[1] else (there, energy[0])
    if max(energy) <= sharper * least:
        return here, there
    low, high = 0.0, _MOST_BLUR
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _sharpness(np.asarray(cv2.GaussianBlur(blurred, (0, 0), middle)), where) > least:
            low = middle
        else:
            high = middle
    soft = np.asarray(cv2.GaussianBlur(blurred, (0, 0), (low + high) / 2), dtype=np.float32)
    return (soft, there) if blurred is here else (here, soft)


def _sharpness(plane: Plane, where: Mask) -> float:
    """Return the energy of edges in the contrast that there is."""
    spread = float(plane[where].var())
    return float((cv2.Laplacian(plane, cv2.CV_32F)[where] ** 2).mean()) / max(spread, 1.0)


def _relation(regions: list[_Region], compared: _Compared) -> Relation:
    if not compared.ink.any():
        return "unclear"
    if not regions:
        return "same picture"
    differing = sum(region.area for region in regions)
    one_sided = all(region.ink > 1 - _ABSENT for region in regions) or all(region.ink < _ABSENT for region in regions)
    covered = any(region.cover for region in regions)
    if one_sided and (covered or differing < np.count_nonzero(compared.agrees)):
        return "one contains the other"
    return "same template, other content"


def _difference(region: _Region, affine: Map, into_frame: Map, first: Grey, second: Grey) -> Difference:
    left, top, right, bottom = region.box
    corners = np.array([left + 1j * top, right + 1j * top, left + 1j * bottom, right + 1j * bottom], np.complex64)
    corners -= np.complex64(0.5 + 0.5j)
    in_second = geometry.apply(geometry.inverse(into_frame), corners)
    in_first = geometry.apply(geometry.inverse(affine), in_second.astype(np.complex64))
    return Difference(_box(in_first, first), _box(in_second, second), region.ink)


def _box(corners: NDArray[np.complex128], picture: Grey) -> Box:
    height, width = picture.shape
    x, y = np.clip((corners.real + 0.5) / width, 0, 1), np.clip((corners.imag + 0.5) / height, 0, 1)
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _smoothed(picture: Grey) -> Plane:
    return np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), _SMOOTH), dtype=np.float32)


def _mean(plane: Plane) -> Plane:
    return np.asarray(cv2.blur(plane, (_WINDOW, _WINDOW), borderType=cv2.BORDER_REFLECT), dtype=np.float32)


def _deviation(plane: Plane) -> Plane:
    mean = _mean(plane)
    return np.asarray(np.sqrt(np.maximum(_mean(plane * plane) - mean * mean, 0)), dtype=np.float32)


def _correlation(here: Plane, there: Plane, first: Plane, second: Plane, ink: Mask) -> Plane:
    """Return the local correlation, the best of those with one picture moved by up to the leeway, until ink agrees."""
    mean_here, mean_there = _mean(here), _mean(there)
    scale_here, scale_there = (np.sqrt(deviation**2 + _NOISE**2) for deviation in (first, second))
    best = np.full(here.shape, -1.0, dtype=np.float32)
    steps = range(-_LEEWAY, _LEEWAY + 1)
    for right, down in sorted(itertools.product(steps, steps), key=lambda by: abs(by[0]) + abs(by[1])):
        moved, mean, scale = (_moved(plane, right, down) for plane in (here, mean_here, scale_here))
        local = (_mean(moved * there) - mean * mean_there) / (scale * scale_there)
        np.maximum(best, local, out=best)
        if best[ink].min(initial=1.0) >= _AGREES:
            break
    return best


def _moved(plane: Plane, right: int, down: int) -> Plane:
    by = np.array([[1.0, 0.0, right], [0.0, 1.0, down]])
    moved = cv2.warpAffine(plane, by, plane.shape[::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.float32)
