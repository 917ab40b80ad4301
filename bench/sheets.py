"""Nearly blank sheets, drawn from seeds: a dot, a rule, a word, a number or a mark on paper.

As of documents, `style` decides where something is and what kind of thing it is, `content` what exactly.
"""

import math
import random
from collections.abc import Callable
from typing import Final

from PIL import Image

from bench.drawing import Page, word

Drawer = Callable[[Page, random.Random, int], None]
"""Draws on a page, from the generator of the style and the number of the content, below CONTENTS."""

CONTENTS: Final = 5
"""Sheets of one style that differ."""

_SIZE: Final = (800, 1100)
_PAPERS: Final = ((255, 255, 255), (255, 255, 255), (246, 244, 236), (232, 232, 232))
_INKS: Final = ((0, 0, 0), (20, 20, 24), (24, 40, 130), (150, 20, 20))
# Each has at least 1.4 times the area of the one before
_RADII: Final = (3, 4, 5, 7, 9)


def _place(style: random.Random) -> tuple[int, int]:
    return style.randrange(60, _SIZE[0] - 60), style.randrange(60, _SIZE[1] - 60)


def _circle(page: Page, at: tuple[float, float], radius: int, ink: tuple[int, int, int]) -> None:
    page.draw.ellipse((at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius), fill=ink)


def _dot(page: Page, style: random.Random, content: int) -> None:
    _circle(page, _place(style), _RADII[content], style.choice(_INKS))


def _dot_elsewhere(page: Page, style: random.Random, content: int) -> None:
    """Draw a dot, each 40 pixels from the others."""
    (x, y), radius, turn = _place(style), style.randrange(3, 11), style.uniform(0, 1)
    angle = 2 * math.pi * (turn + content / CONTENTS)
    _circle(page, (x + 36 * math.cos(angle), y + 36 * math.sin(angle)), radius, style.choice(_INKS))


def _dots(page: Page, style: random.Random, content: int) -> None:
    """Draw one to five dots in a row."""
    (x, y), radius, ink = _place(style), style.randrange(3, 8), style.choice(_INKS)
    for i in range(content + 1):
        _circle(page, (min(x, 560) + 40 * i, y), radius, ink)


def _rule(page: Page, style: random.Random, content: int) -> None:
    """Draw a line, of other lengths and slants."""
    (x, y), width, ink = _place(style), style.choice([2, 3, 4]), style.choice(_INKS)
    length, angle = 40 * 1.5**content, style.choice([0, 0, math.pi / 2, style.uniform(0, math.pi)])
    away = length / 2 * math.cos(angle), length / 2 * math.sin(angle)
    page.draw.line((x - away[0], y - away[1], x + away[0], y + away[1]), fill=ink, width=width)


def _word(page: Page, style: random.Random, content: int) -> None:
    at, size, ink = _place(style), style.choice([14, 18, 24, 40]), style.choice(_INKS)
    page.write(at, _unlike(style, content).title(), size, ink, "mm")


def _unlike(style: random.Random, content: int) -> str:
    """Return one of CONTENTS different words."""
    words: list[str] = []
    while len(words) < CONTENTS:
        if (new := word(style)) not in words:
            words.append(new)
    return words[content]


def _letter(page: Page, style: random.Random, content: int) -> None:
    """Write a word, with one other letter in its place."""
    at, size, ink, text = _place(style), style.choice([16, 20, 28, 40]), style.choice(_INKS), word(style) + word(style)
    changed, letters = style.randrange(len(text)), style.sample("aehkmstvxz", CONTENTS)
    page.write(at, text[:changed] + letters[content] + text[changed + 1 :], size, ink, "mm")


def _number(page: Page, style: random.Random, content: int) -> None:
    at = style.choice([(400, 1050), (740, 1060), (60, 1060), (740, 40)])
    numbers = style.sample(range(1, 100), CONTENTS)
    text = style.choice(["{}", "Page {}", "– {} –", "No. {}"]).format(numbers[content])
    page.write(at, text, style.choice([14, 16, 20]), style.choice(_INKS), "mm")


def _mark(page: Page, style: random.Random, content: int) -> None:
    """Draw a tick, a cross, a ring, a square or a triangle."""
    (x, y), r, width, ink = _place(style), style.randrange(10, 36), style.choice([2, 3, 5]), style.choice(_INKS)
    if content == 0:
        page.draw.line((x - r, y, x - r / 3, y + r, x + r, y - r), fill=ink, width=width)
    elif content == 1:
        page.draw.line((x - r, y - r, x + r, y + r), fill=ink, width=width)
        page.draw.line((x - r, y + r, x + r, y - r), fill=ink, width=width)
    elif content == 2:
        page.draw.ellipse((x - r, y - r, x + r, y + r), outline=ink, width=width)
    else:
        page.draw.regular_polygon((x, y, r), 7 - content, outline=ink, width=width)


def _scrawl(page: Page, style: random.Random, content: int) -> None:
    """Draw a curve as of a pen, in one place."""
    (x, y), ink, hand = _place(style), style.choice(_INKS), random.Random(style.randrange(10**6) * CONTENTS + content)
    swings = [(hand.uniform(2, 9), hand.uniform(0, 6.28), hand.uniform(4, 16)) for _ in range(3)]
    curve = [
        (x - 60 + 2 * i, y + sum(height * math.sin(pace * i / 10 + phase) for pace, phase, height in swings))
        for i in range(60)
    ]
    page.draw.line(curve, fill=ink, width=2)


SHEETS: Final[dict[str, Drawer]] = {
    "dot": _dot, "dot elsewhere": _dot_elsewhere, "dots": _dots, "rule": _rule, "word": _word, "letter": _letter,
    "number": _number, "mark": _mark, "scrawl": _scrawl,
}  # fmt: skip


def sheet(kind: str, style: int, content: int) -> Image.Image:
    """Draw one sheet: equal styles have the same kind of thing in the same place."""
    rng = random.Random(f"{kind} sheet {style}")
    page = Page(rng, _SIZE, rng.choice(_PAPERS))
    SHEETS[kind](page, rng, content)
    return page.image
