"""Overlays that people and apps put on photos: captions, app screens, frames, logos, watermarks, meme text.

Each takes an RGB image and a `random.Random` and returns a new RGB image. The generator alone decides the overlay, so
two photos with generators of one seed carry the same overlay: such pairs are no copies of each other.
"""

import random
import re
from collections.abc import Callable
from typing import Final

from PIL import Image, ImageColor, ImageDraw, ImageFont

Overlay = Callable[[Image.Image, random.Random], Image.Image]

_TEXT: Final = (
    "summer sale today only new photo of the day best friends forever look at this happy birthday never again "
    "made in one hour fresh from the market three steps to a better morning who did this wait for it"
)
_WORDS: Final = re.findall(r"\w+", _TEXT)


def caption(image: Image.Image, rng: random.Random) -> Image.Image:
    """A bar with one or two lines of text over the top or the bottom sixth."""
    canvas = image.copy()
    width, height = canvas.size
    bar = max(1, round(height * rng.uniform(0.14, 0.19)))
    top = rng.choice([0, height - bar])
    ink, ground = rng.choice([("black", "white"), ("white", "black"), ("white", "#b01030"), ("black", "#ffd000")])
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, top, width, top + bar), fill=ground)
    lines = rng.choice([1, 2])
    for line in range(lines):
        slot = bar / lines
        _centred(draw, _phrase(rng, 4), (0, top + line * slot, width, top + (line + 1) * slot), ink, slot * 0.62)
    return canvas


def meme(image: Image.Image, rng: random.Random) -> Image.Image:
    """White outlined capitals over the top and the bottom."""
    canvas = image.copy()
    width, height = canvas.size
    draw = ImageDraw.Draw(canvas)
    for top in (0.02, 0.82):
        box = (0, height * top, width, height * (top + 0.16))
        _centred(draw, _phrase(rng, 3).upper(), box, "white", height * 0.13, outline="black")
    return canvas


def frame(image: Image.Image, rng: random.Random) -> Image.Image:
    """A patterned border of a twelfth of the shorter side, drawn over the edge of the picture."""
    canvas = image.copy()
    width, height = canvas.size
    border = max(2, min(width, height) // 12)
    draw = ImageDraw.Draw(canvas)
    colours = [_colour(rng) for _ in range(3)]
    for ring in range(border):
        box = (ring, ring, max(ring, width - 1 - ring), max(ring, height - 1 - ring))
        draw.rectangle(box, outline=colours[ring * 3 // border])
    radius = border * 0.35
    # placed by fractions of the sides, so that pictures of one size carry one frame
    for step in range(24):
        along = (step + 0.5) / 24
        kind = rng.random()
        for x, y in (
            (along * width, border / 2),
            (along * width, height - border / 2),
            (border / 2, along * height),
            (width - border / 2, along * height),
        ):
            box = (round(x - radius), round(y - radius), round(x + radius), round(y + radius))
            if kind < 0.5:
                draw.ellipse(box, fill=colours[step % 3], outline="white")
            else:
                draw.rectangle(box, fill=colours[step % 3], outline="black")
    return canvas


def logo(image: Image.Image, rng: random.Random) -> Image.Image:
    """A badge with shapes and two letters in one corner, a fifth of the shorter side."""
    canvas = image.copy()
    width, height = canvas.size
    side = max(4, min(width, height) // 5)
    badge = Image.new("RGB", (64, 64), _colour(rng))
    draw = ImageDraw.Draw(badge)
    for _ in range(5):
        x, y, size = rng.randrange(64), rng.randrange(64), rng.randrange(8, 28)
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)((x - size, y - size, x + size, y + size), _colour(rng))
    _centred(draw, "".join(rng.choices("ABCDEFGHKMNPRSTX", k=2)), (0, 0, 64, 64), "white", 40, outline="black")
    margin = side // 4
    x = rng.choice([margin, width - side - margin])
    y = rng.choice([margin, height - side - margin])
    canvas.paste(badge.resize((side, side), Image.Resampling.LANCZOS), (x, y))
    return canvas


def watermark(image: Image.Image, rng: random.Random) -> Image.Image:
    """Thin, half transparent text, repeated over the whole picture."""
    width, height = image.size
    size = max(6, min(width, height) // 12)
    layer = Image.new("L", image.size, 0)
    draw = ImageDraw.Draw(layer)
    font = ImageFont.load_default(size)
    text = _phrase(rng, 2)
    for row, y in enumerate(range(0, height, size * 3)):
        for x in range(-(row % 2) * size * 4, width, size * 8):
            draw.text((x, y), text, font=font, fill=90)
    return Image.composite(Image.new("RGB", image.size, "white"), image, layer)


def screenshot(image: Image.Image, rng: random.Random) -> Image.Image:
    """A phone's screen with an app around the picture: status bar, author, buttons, comments, navigation."""
    width = max(180, min(1080, image.width))
    height = round(width * 2.1)
    unit = width / 100
    dark = rng.random() < 0.5
    ground, ink, faint = ("#101014", "#f0f0f0", "#606068") if dark else ("#ffffff", "#101010", "#b0b0b8")
    screen = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(screen)
    _text(draw, (4 * unit, 1.5 * unit), f"{rng.randrange(1, 24)}:{rng.randrange(60):02d}", ink, 4 * unit)
    draw.rectangle((88 * unit, 2 * unit, 95 * unit, 5 * unit), outline=ink, fill=faint)
    draw.ellipse((3 * unit, 10 * unit, 13 * unit, 20 * unit), fill=_colour(rng), outline=ink)
    _text(draw, (16 * unit, 11 * unit), _phrase(rng, 2), ink, 4.5 * unit)
    _text(draw, (16 * unit, 16 * unit), _phrase(rng, 3), faint, 3 * unit)
    photo_height = max(1, min(round(image.height * width / image.width), round(height * 0.6)))
    photo_width = max(1, round(image.width * photo_height / image.height))
    photo_top = round(24 * unit)
    photo = image.resize((min(width, photo_width), photo_height), Image.Resampling.LANCZOS)
    screen.paste(photo, ((width - photo.width) // 2, photo_top))
    # buttons and comments hang under the picture as apps lay them out, and run off the screen when it is tall
    y: float = photo_top + photo_height + 3 * unit
    for button, shape in ((4, draw.ellipse), (14, draw.rectangle), (24, draw.ellipse), (90, draw.rectangle)):
        shape((button * unit, y, (button + 6) * unit, y + 6 * unit), outline=ink, width=max(1, round(unit)))
    y += 10 * unit
    for _ in range(8):
        _text(draw, (4 * unit, y), _phrase(rng, rng.randrange(4, 7)), rng.choice([ink, faint]), 4 * unit)
        y += 7 * unit
    draw.rectangle((0, height - 13 * unit, width, height), fill=ground)
    draw.line((0, height - 13 * unit, width, height - 13 * unit), fill=faint)
    for slot in range(5):
        draw.regular_polygon(((10 + slot * 20) * unit, height - 6.5 * unit, 3.5 * unit), slot + 3, fill=ink)
    return screen


OVERLAYS: Final[dict[str, Overlay]] = {
    "caption": caption,
    "screenshot": screenshot,
    "frame": frame,
    "logo": logo,
    "meme": meme,
    "watermark": watermark,
}


def _phrase(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(_WORDS) for _ in range(words))


def _colour(rng: random.Random) -> tuple[int, int, int]:
    red, green, blue = ImageColor.getrgb(
        f"hsv({rng.randrange(360)},{rng.randrange(50, 101)}%,{rng.randrange(50, 101)}%)"
    )[:3]
    return red, green, blue


def _text(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, ink: str, size: float) -> None:
    draw.text(at, text, fill=ink, font=ImageFont.load_default(max(5.0, size)))


def _centred(
    draw: ImageDraw.ImageDraw,
    text: str,
    box: tuple[float, float, float, float],
    ink: str,
    size: float,
    *,
    outline: str | None = None,
) -> None:
    """Write text in the middle of the box, shrunk until it fits the box's width."""
    left, top, right, bottom = box
    size = max(5.0, size)
    font = ImageFont.load_default(size)
    if (long := draw.textlength(text, font=font)) > (right - left) * 0.95:
        font = ImageFont.load_default(max(5.0, size * (right - left) * 0.95 / long))
    middle = ((left + right) / 2, (top + bottom) / 2)
    stroke = max(1, round(size / 14)) if outline else 0
    draw.text(middle, text, fill=ink, font=font, anchor="mm", stroke_width=stroke, stroke_fill=outline)
