"""What documents are drawn with: a sheet, fonts that a package brings, made-up words."""

import random
from functools import cache
from pathlib import Path
from typing import Final

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

FONTS: Final = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono")
INK: Final = (20, 20, 24)
RULE: Final = (150, 150, 155)
_SYLLABLES: Final = (
    "an", "be", "cor", "da", "el", "fi", "gra", "hol", "in", "jo", "ka", "lum", "mer", "no", "or", "pa", "qui", "ra",
    "sto", "ti", "ul", "ver", "wa", "xi", "yo", "zen",
)  # fmt: skip


@cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font that matplotlib brings."""
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size)


def word(rng: random.Random) -> str:
    """Return a word of a few syllables."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice([1, 2, 2, 3, 3, 4])))


def words(rng: random.Random, count: int) -> str:
    """Return `count` words."""
    return " ".join(word(rng) for _ in range(count))


def money(rng: random.Random) -> str:
    """Return an amount of money."""
    return f"{rng.randrange(1, 2000)}.{rng.randrange(100):02}"


def tint_of(rng: random.Random, low: int = 40, high: int = 220) -> Colour:
    """Return a colour."""
    return rng.randrange(low, high), rng.randrange(low, high), rng.randrange(low, high)


class Page:
    """A sheet to draw on, with a font that its style chose."""

    def __init__(self, style: random.Random, size: tuple[int, int] = (800, 1100), ground: Colour = (255, 255, 255)):
        self.image = Image.new("RGB", size, ground)
        self.draw = ImageDraw.Draw(self.image)
        self.face = style.choice(FONTS)

    def write(self, at: tuple[float, float], text: str, size: int = 16, ink: Colour = INK, anchor: str = "la") -> None:
        """Write one line."""
        self.draw.text(at, text, fill=ink, font=font(self.face, size), anchor=anchor)

    def fill_line(self, rng: random.Random, at: tuple[float, float], width: float, size: int) -> None:
        """Write words until the line is full."""
        line = word(rng)
        while font(self.face, size).getlength(longer := f"{line} {word(rng)}") < width:
            line = longer
        self.write(at, line, size)
