"""Two images side by side, with lines between the points that match, and outlines of what differs."""

import colorsys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw, ImageFont

Point4 = Sequence[float]
"""x, y in the first image and x, y in the second, each 0 to 1 from the upper left."""

BoxSides = Sequence[float]
"""Left, top, right and bottom of a region, each 0 to 1 of an image's width or height."""

SIDE: Final = 640
"""Pixels of the longer side of each image in a picture."""

_MARGIN: Final = 16
_FONT_SIZE: Final = 18
_GROUND: Final = (250, 250, 249)
_INK: Final = (28, 28, 30)
# Azure shows on white, black and red, and its white rim on blue
_DIFFERENCE: Final = (0, 122, 255, 255)
_RIM: Final = (255, 255, 255, 235)
# Pixels between what differs and its outline
_AWAY: Final = 3


@dataclass(frozen=True)
class Box:
    """A rectangle: left, top, width and height in the units of its layout."""

    x: float
    y: float
    width: float
    height: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the place of a point of the image, given 0 to 1."""
        return self.x + x * self.width, self.y + y * self.height


@dataclass(frozen=True)
class Layout:
    """Two images side by side, centred vertically."""

    width: float
    height: float
    first: Box
    second: Box


def side_by_side(first: tuple[int, int], second: tuple[int, int], side: float, gap: float) -> Layout:
    """Fit two images of (width, height) into squares of `side`, and trim space that neither needs."""
    sizes = [(side * w / max(w, h), side * h / max(w, h)) for w, h in (first, second)]
    height = max(h for _, h in sizes)
    (w1, h1), (w2, h2) = sizes
    return Layout(w1 + gap + w2, height, Box(0, (height - h1) / 2, w1, h1), Box(w1 + gap, (height - h2) / 2, w2, h2))


def pair_picture(
    first: Image.Image,
    second: Image.Image,
    points: Sequence[Point4],
    caption: str,
    regions: Sequence[tuple[BoxSides, BoxSides]] = (),
) -> Image.Image:
    """Draw a pair as one RGB picture: both images, a line for each matching point, and the caption below.

    regions  boxes that show something else, in the first and in the second image; outlined
    """
    layout = side_by_side(first.size, second.size, SIDE, _MARGIN)
    font = ImageFont.load_default(_FONT_SIZE)
    width = max(round(layout.width) + 2 * _MARGIN, 320)
    lines = textwrap.wrap(caption, max(10, int((width - 2 * _MARGIN) / (_FONT_SIZE * 0.55))))
    below = round(layout.height) + 2 * _MARGIN
    canvas = Image.new(
        "RGB", (width, below + len(lines) * round(1.4 * _FONT_SIZE) + (_MARGIN if lines else 0)), _GROUND
    )
    left = (width - round(layout.width)) // 2
    for image, box in ((first, layout.first), (second, layout.second)):
        size = (max(1, round(box.width)), max(1, round(box.height)))
        fitted = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        canvas.paste(fitted, (left + round(box.x), _MARGIN + round(box.y)))
    _draw_marks(canvas, layout, points, regions, (left, _MARGIN))
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        draw.text((width / 2, below + number * 1.4 * _FONT_SIZE), line, fill=_INK, font=font, anchor="ma")
    return canvas


def _draw_marks(
    canvas: Image.Image,
    layout: Layout,
    points: Sequence[Point4],
    regions: Sequence[tuple[BoxSides, BoxSides]],
    offset: tuple[int, int],
) -> None:
    """Draw lines and outlines with rims that make them visible on any picture."""
    # drawn at twice the size and shrunk, because ImageDraw does not smooth lines
    layer = Image.new("RGBA", (canvas.width * 2, canvas.height * 2))
    draw = ImageDraw.Draw(layer)
    _draw_lines(draw, layout, points, offset)
    for sides in regions:
        for box, (left, top, right, bottom) in zip((layout.first, layout.second), sides, strict=True):
            (x1, y1), (x2, y2) = box.at(left, top), box.at(right, bottom)
            x1, y1 = 2 * (x1 + offset[0] - _AWAY), 2 * (y1 + offset[1] - _AWAY)
            x2, y2 = 2 * (x2 + offset[0] + _AWAY), 2 * (y2 + offset[1] + _AWAY)
            draw.rounded_rectangle((x1 - 2, y1 - 2, x2 + 2, y2 + 2), 6, outline=_RIM, width=9)
            draw.rounded_rectangle((x1, y1, x2, y2), 6, outline=_DIFFERENCE, width=5)
    smooth = layer.resize(canvas.size, Image.Resampling.BOX)
    canvas.paste(smooth, mask=smooth)


def _draw_lines(draw: ImageDraw.ImageDraw, layout: Layout, points: Sequence[Point4], offset: tuple[int, int]) -> None:
    """Draw lines in different hues, with a dark rim, at twice the size of the layout."""
    for number, (x, y, x2, y2) in enumerate(points):
        red, green, blue = colorsys.hsv_to_rgb(number / len(points), 0.75, 1.0)
        colour = (round(255 * red), round(255 * green), round(255 * blue), 230)
        ends = [
            (2 * (at[0] + offset[0]), 2 * (at[1] + offset[1]))
            for at in (layout.first.at(x, y), layout.second.at(x2, y2))
        ]
        draw.line(ends, fill=(0, 0, 0, 90), width=5)
        draw.line(ends, fill=colour, width=2)
        for end in ends:
            draw.circle(end, 7, fill=colour, outline=(0, 0, 0, 160), width=2)
