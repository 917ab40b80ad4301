"""The pictures inside a picture: cells of a collage, the photo in a screenshot, what a frame or a letterbox encloses.

A fingerprint of the whole says little about a photo that fills a quarter of it. Pictures that were put together meet
in straight seams along the axes, which few photographs have over their full width or height. The image is cut at such
seams, and at lines of one colour, recursively (the X-Y cut of Nagy and Seth, 1984, for pages of text). A piece with a
seam or the image's border on all four sides is a part.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE: Final = 192
"""Pixels of the square that is searched for seams; the thin white line of a collage is two pixels wide there."""

STEP: Final = 28
"""Levels of 255 by which the pixels on both sides of a seam differ, or a line differs from both its sides."""

COVERED: Final = 0.9
"""Share of a seam's length that has such a step. With PEAK, 100 % of collages with a line between their cells have a
seam, and 3 % of photographs."""

PEAK: Final = 0.35
"""How much larger that share is than beside the seam; otherwise it is texture."""

SIDE_COVERED: Final = 0.6
"""The same share along each side of a part; less is enough where a cut runs."""

FLAT: Final = 20
"""Levels between the darkest and the brightest pixel of a line of one colour, in any channel."""

SLIGHT: Final = 10
"""Levels by which a pixel differs from an area of one colour beside it."""

MIN_SIDE: Final = 0.15
"""Share of the image's width and height; a smaller piece is not worth a search."""

MAX_AREA: Final = 0.85
"""Share of the image's area; the fingerprint of the whole covers a larger part."""

MAX_PARTS: Final = 9
"""Parts of one image: first those that hold no others, the largest first."""

_DEPTH: Final = 6


@dataclass(frozen=True, slots=True)
class PartBox:
    """A rectangle of an image, as shares of its width and height from the upper left corner."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Share of the image."""
        return (self.right - self.left) * (self.bottom - self.top)

    def cut(self, image: Image.Image) -> Image.Image:
        """Cut the part out of the image, in any size of it; at least one pixel."""
        width, height = image.size
        left, top = min(round(self.left * width), width - 1), min(round(self.top * height), height - 1)
        right, bottom = max(left + 1, round(self.right * width)), max(top + 1, round(self.bottom * height))
        return image.crop((left, top, right, bottom))


WHOLE: Final = PartBox(0.0, 0.0, 1.0, 1.0)
"""The box of a further frame of an animation."""


def find_parts(image: Image.Image) -> list[PartBox]:
    """Find the parts of an RGB image, at most MAX_PARTS; most photographs have none. Thread-safe."""
    return _Seams(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)).parts()


@dataclass(frozen=True, slots=True)
class _Box:
    """Rows y0 to y1 and columns x0 to x1 of the square, without the ends."""

    y0: int
    x0: int
    y1: int
    x1: int

    def along(self, axis: int, start: int, end: int) -> "_Box":
        """Take the box's rows (axis 0) or columns (1) from start to end, counted within the box."""
        if axis == 0:
            return _Box(self.y0 + start, self.x0, self.y0 + end, self.x1)
        return _Box(self.y0, self.x0 + start, self.y1, self.x0 + end)

    @property
    def area(self) -> int:
        return (self.y1 - self.y0) * (self.x1 - self.x0)

    def holds(self, other: "_Box") -> bool:
        """Whether another box lies within this one."""
        inside = self.y0 <= other.y0 and other.y1 <= self.y1 and self.x0 <= other.x0 and other.x1 <= self.x1
        return inside and self != other

    def length(self, axis: int) -> int:
        return self.y1 - self.y0 if axis == 0 else self.x1 - self.x0


class _Seams:
    """The square, and the steps in it: places where neighboring pixels differ."""

    def __init__(self, square: Image.Image) -> None:
        planes = np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))
        self._planes = planes
        # [0]: steps between rows, [1]: between columns; always as (rows, columns)
        self._steps = (_steps(planes), _steps(np.ascontiguousarray(planes.transpose(0, 2, 1))).T)

    def parts(self) -> list[PartBox]:
        whole = _Box(0, 0, SIDE, SIDE)
        found = [box for box in self._cut(whole, _DEPTH) if box.area <= MAX_AREA * whole.area]
        # a row of a collage is also cut into its cells, which are the better parts
        last = [box for box in found if not any(box.holds(other) for other in found)]
        first = sorted(found, key=lambda box: (box not in last, -box.area))[:MAX_PARTS]
        return [PartBox(box.x0 / SIDE, box.y0 / SIDE, box.x1 / SIDE, box.y1 / SIDE) for box in first]

    def _cut(self, box: _Box, depth: int) -> Iterator[_Box]:
        """The parts in a box, which may be the box itself."""
        box = self._trimmed(box)
        if min(box.length(0), box.length(1)) < MIN_SIDE * SIDE:
            return
        if depth:
            yield from self._within(box, depth)
        # a box that was cut may still be one photo
        if self._enclosed(box):
            yield box

    def _within(self, box: _Box, depth: int) -> Iterator[_Box]:
        """The parts of the pieces that a box is cut into: at seams, or else at lines of one colour."""
        for pieces in (self._at_seams(box, 0), self._at_seams(box, 1)):
            if pieces != [box]:
                for piece in pieces:
                    yield from self._cut(piece, depth - 1)
                return
        for axis in (0, 1):
            pieces = self._at_flat_lines(box, axis)
            if pieces != [box] and (found := [part for piece in pieces for part in self._cut(piece, depth - 1)]):
                yield from found
                return

    def _trimmed(self, box: _Box) -> _Box:
        """The box without the lines of one colour around it."""
        for axis in (0, 1):
            other = np.flatnonzero(~self._flat(box, axis))
            if not len(other):
                return _Box(box.y0, box.x0, box.y0, box.x0)
            box = box.along(axis, int(other[0]), int(other[-1]) + 1)
        return box

    def _at_seams(self, box: _Box, axis: int) -> list[_Box]:
        """The pieces of a box between the seams across this axis; the box itself where there is none."""
        steps = self._steps[axis][box.y0 : box.y1, box.x0 : box.x1]
        covered = np.count_nonzero(steps, axis=1 - axis) / box.length(1 - axis)
        if covered.max() <= COVERED:
            return [box]
        padded = np.pad(covered, 7, mode="edge")
        count = len(covered)
        beside = np.median([padded[7 + off : 7 + off + count] for off in (-7, -6, -5, 5, 6, 7)], axis=0)
        return self._between(box, axis, (covered > COVERED) & (covered - beside > PEAK))

    def _at_flat_lines(self, box: _Box, axis: int) -> list[_Box]:
        return self._between(box, axis, self._flat(box, axis))

    def _between(self, box: _Box, axis: int, lines: npt.NDArray[np.bool_]) -> list[_Box]:
        """The pieces of a box between these lines, without those that are too small; itself where none is left."""
        if not lines.any():
            return [box]
        ends = np.flatnonzero(np.diff(np.concatenate(([True], lines, [True])).astype(np.int8)))
        runs = ends.reshape(-1, 2)
        pieces = [box.along(axis, int(start), int(end)) for start, end in runs]
        # lines along the border cut nothing
        if len(pieces) == 1:
            return [box]
        return [piece for piece in pieces if piece.length(axis) >= MIN_SIDE * SIDE] or [box]

    def _flat(self, box: _Box, axis: int) -> npt.NDArray[np.bool_]:
        """Tell which rows (axis 0) or columns (1) are of one colour."""
        piece = self._planes[:, box.y0 : box.y1, box.x0 : box.x1]
        across = 2 - axis
        return np.asarray((piece.max(axis=across) - piece.min(axis=across)).max(axis=0) <= FLAT)

    def _enclosed(self, box: _Box) -> bool:
        """Tell whether a seam, the image's border, or an area of one colour runs along each side."""
        rows = self._steps[0][:, box.x0 : box.x1], self._planes[:, :, box.x0 : box.x1]
        columns = self._steps[1][box.y0 : box.y1].T, self._planes[:, box.y0 : box.y1].transpose(0, 2, 1)
        return (
            _runs_along(*rows, box.y0 - 1, box.y0)
            and _runs_along(*rows, box.y1, box.y1 - 1)
            and _runs_along(*columns, box.x0 - 1, box.x0)
            and _runs_along(*columns, box.x1, box.x1 - 1)
        )


def _runs_along(steps: npt.NDArray[np.bool_], planes: npt.NDArray[np.uint8], outside: int, inside: int) -> bool:
    """Tell whether the rows outside and inside lie on both sides of a seam, or the outer one beyond the border."""
    if not 0 <= outside < SIDE:
        return True
    first = min(outside, inside)
    covered = np.count_nonzero(steps[max(0, first - 2) : first + 4], axis=1).max() / steps.shape[1]
    if covered > SIDE_COVERED:
        return True
    line = planes[:, outside]
    if (line.max(axis=1) - line.min(axis=1)).max() > FLAT:
        return False
    # beside an area of one colour a smaller step is enough
    colour = np.median(line, axis=1).astype(np.int16)
    further = inside + (inside - outside)
    differs = [
        (np.abs(planes[:, at].astype(np.int16) - colour[:, None]).max(axis=0) > SLIGHT).mean()
        for at in (inside, further)
    ]
    return bool(max(differs) > SIDE_COVERED)


def _steps(planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Find where the rows above and below differ, or a row from both: (3, rows, columns) → bool (rows, columns)."""
    found = np.zeros(planes.shape[1:], bool)
    np.greater(_apart(planes[:, :-2], planes[:, 2:]), STEP, out=found[1:-1])
    # halved, so that sums fit in a byte
    halves = planes >> 1
    found[2:-2] |= _apart(planes[:, 2:-2], halves[:, :-4] + halves[:, 4:]) > STEP
    return found


def _apart(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Compute the largest difference of the three channels, pixel by pixel."""
    difference = np.maximum(one, other)
    difference -= np.minimum(one, other)
    return np.asarray(np.maximum(np.maximum(difference[0], difference[1]), difference[2]))
