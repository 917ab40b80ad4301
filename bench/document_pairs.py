"""Pairs of drawn documents with known answers: one template with other content, scans, and nearly blank sheets."""

import io
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Final

from PIL import Image, ImageDraw

from bench.documents import DOCUMENTS, document
from bench.drawing import font
from bench.pairs import Pair, Picture
from bench.scans import SCANS
from bench.sheets import CONTENTS as SHEET_CONTENTS
from bench.sheets import SHEETS, sheet
from imagetools.decode import decode

CONTENTS: Final = 5
"""Pictures of each template."""

_SHEET: Final = (800, 1100)


def documents(count: int, seed: int) -> Iterator[Pair]:
    """Pairs of one template with other content, `count` pictures a kind: as drawn, and one of them scanned."""
    for kind in DOCUMENTS:
        for first in range(0, count, CONTENTS):
            style, pictures = seed + first, [_drawn(kind, seed + first, seed + first + i) for i in range(CONTENTS)]
            for one, two in itertools.combinations(pictures, 2):
                yield Pair("document", kind, False, one, two)
                yield Pair("document", f"{kind}, scanned", False, one, _made("scanned", two, style))


def scans(count: int, seed: int) -> Iterator[Pair]:
    """Each document with its scan, its JPEG and itself at half the size."""
    for kind in DOCUMENTS:
        for number in range(count):
            picture = _drawn(kind, seed + number - number % CONTENTS, seed + number)
            for name in SCANS:
                yield Pair("scan", f"{kind}, {name}", True, picture, _made(name, picture, seed + number))


def near_blank(seed: int) -> Iterator[Pair]:
    """All pairs of different sheets with little or nothing on them, and copies of each that has anything on it."""
    pictures = {name: Picture(f"near-blank {name}", make) for name, make in _SHEETS.items()}
    for one, two in itertools.combinations(pictures, 2):
        yield Pair("near-blank", "sheets", False, pictures[one], pictures[two])
    for name, picture in pictures.items():
        if "blank" not in name:
            for edit in SCANS:
                yield Pair("near-blank copy", edit, True, picture, _made(edit, picture, seed))


def near_blank_alike(seed: int) -> Iterator[Pair]:
    """Different marks in one place on a sheet, and one of the two scanned; and copies of each."""
    for kind in SHEETS:
        pictures = [_sheet_picture(kind, seed, content) for content in range(SHEET_CONTENTS)]
        for one, two in itertools.combinations(pictures, 2):
            yield Pair("near-blank", f"other {kind} in its place", False, one, two)
            yield Pair("near-blank", f"other {kind} in its place, scanned", False, one, _made("scanned", two, seed))
        for picture in pictures:
            for edit in SCANS:
                yield Pair("near-blank copy", f"{kind}, {edit}", True, picture, _made(edit, picture, seed))


def drawn_pairs(count: int, seed: int) -> list[Pair]:
    """Return pairs of all these kinds."""
    return [*documents(count, seed), *scans(count, seed), *near_blank(seed), *near_blank_alike(seed)]


def _drawn(kind: str, style: int, content: int) -> Picture:
    return Picture(f"{kind} {style} {content}", lambda: document(kind, style, content))


def _sheet_picture(kind: str, style: int, content: int) -> Picture:
    return Picture(f"sheet {kind} {style} {content}", lambda: sheet(kind, style, content))


def _made(edit: str, picture: Picture, seed: int) -> Picture:
    return Picture(f"{picture.name}, {edit} {seed}", lambda: SCANS[edit](picture.make(), seed))


def _blank(size: tuple[int, int], shade: int) -> Callable[[], Image.Image]:
    return lambda: Image.new("RGB", size, (shade, shade, shade))


def _dot(x: int, y: int, radius: int) -> Callable[[], Image.Image]:
    def make() -> Image.Image:
        sheet = Image.new("RGB", _SHEET, "white")
        ImageDraw.Draw(sheet).ellipse((x - radius, y - radius, x + radius, y + radius), fill="black")
        return sheet

    return make


def _line(text: str, at: tuple[int, int], size: int) -> Callable[[], Image.Image]:
    def make() -> Image.Image:
        sheet = Image.new("RGB", _SHEET, "white")
        ImageDraw.Draw(sheet).text(at, text, fill="black", font=font("DejaVuSans", size), anchor="mm")
        return sheet

    return make


def _logo(seed: int, shade: int) -> Callable[[], Image.Image]:
    """Return a logo of one shade on transparency, as its PNG is decoded."""

    def make() -> Image.Image:
        rng, logo = random.Random(seed), Image.new("RGBA", (400, 400))
        draw = ImageDraw.Draw(logo)
        for _ in range(3):
            x, y, r = rng.randrange(100, 300), rng.randrange(100, 300), rng.randrange(30, 90)
            draw.regular_polygon((x, y, r), rng.choice([3, 4, 5, 6]), fill=(shade, shade, shade, 255))
        packed = io.BytesIO()
        logo.save(packed, "PNG")
        return decode(packed.getvalue(), "logo")

    return make


_SHEETS: Final[dict[str, Callable[[], Image.Image]]] = {
    "blank white": _blank(_SHEET, 255),
    "blank paper": _blank(_SHEET, 238),
    "blank pixel": _blank((1, 1), 255),
    "blank square": _blank((400, 400), 255),
    **{f"dot of {radius}": _dot(400, 550, radius) for radius in (3, 5, 7, 10)},
    **{f"dot at {x} {y}": _dot(x, y, 6) for x in (80, 720) for y in (80, 1020)},
    **{f"page {number}": _line(f"Page {number}", (400, 1050), 16) for number in (1, 2, 88)},
    **{text: _line(text, (400, 550), 40) for text in ("Yes", "No", "Draft")},
    **{f"white logo {seed}": _logo(seed, 255) for seed in range(3)},
    **{f"black logo {seed}": _logo(seed, 0) for seed in range(3, 6)},
}
