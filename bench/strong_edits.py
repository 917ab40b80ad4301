"""Strong edits of photos that no weights and no calibration saw: what people's tools and cameras do beyond `edits`.

Each is a seeded function on RGB images, with the signature of `imagetools.edits.Edit`. `other`, a second photo, is what
a copy is pasted on or blended with.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from bench.drawing import font
from bench.scans import through_jpeg
from imagetools.overlays import caption

Colour = tuple[int, int, int]

SITES: Final = 8
"""Web sites, each with a layout of its own."""

_WORDS: Final = (
    "home", "news", "shop", "latest", "about", "contact", "search", "today", "people", "market", "garden", "letters",
    "opinion", "weather", "travel", "sport", "culture", "science", "health", "more", "from", "this", "week", "and",
)  # fmt: skip


def perspective(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    """Each corner moved by up to 10 % of the sides, at random."""
    return _cornered(image, rng, lambda: rng.uniform(-0.1, 0.1))


def mild_keystone(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    """Each corner moved by 3 to 8 % of the sides, inwards."""
    return _cornered(image, rng, lambda: rng.uniform(0.03, 0.08))


def photographed(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    """Print or screen, photographed at a slant: keystone of up to 15 %, light that falls off, blur and noise."""
    slant = rng.uniform(0.05, 0.15)
    left, right = (slant, 0.0) if rng.random() < 0.5 else (0.0, slant)
    size = image.size
    corners = [(0.04, left), (0.96, right), (0.96, 1 - right), (0.04, 1 - left)]
    if rng.random() < 0.5:
        corners = [(left, 0.04), (1 - left, 0.04), (1 - right, 0.96), (right, 0.96)]
    table: Colour = (rng.randrange(60, 160), rng.randrange(60, 150), rng.randrange(50, 140))
    warped = np.asarray(_warped(image, corners, size, table), dtype=np.float32)
    across = np.linspace(rng.uniform(0.75, 1), rng.uniform(0.75, 1), size[0], dtype=np.float32)
    lit = cv2.GaussianBlur(warped * across[np.newaxis, :, np.newaxis], (0, 0), rng.uniform(0.4, 1.0))
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 3, lit.shape)
    return through_jpeg(Image.fromarray(np.clip(lit + noise, 0, 255).astype(np.uint8)), 80)


def web_page(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    """The photo on a web page: a quarter of the page, the rest is the site's."""
    return page_with(image, rng.randrange(SITES))


def pasted(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    """Half as wide and high, on another photo."""
    ground = ImageOps.fit(other, image.size)
    share = rng.uniform(0.4, 0.6)
    small = image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))))
    ground.paste(small, (rng.randint(0, ground.width - small.width), rng.randint(0, ground.height - small.height)))
    return ground


def stripe(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    """A stripe of one colour over a fifth to a third of it, straight or aslant."""
    canvas = image.copy()
    draw, width = ImageDraw.Draw(canvas), rng.uniform(0.2, 0.33)
    colour = tuple(rng.randrange(256) for _ in range(3))
    w, h, at, lean = (
        image.width,
        image.height,
        rng.uniform(0.1, 0.9 - width),
        rng.choice([0.0, rng.uniform(-0.25, 0.25)]),
    )
    if rng.random() < 0.5:
        draw.polygon(
            [(0, at * h), (w, (at + lean) * h), (w, (at + lean + width) * h), (0, (at + width) * h)], fill=colour
        )
    else:
        draw.polygon(
            [(at * w, 0), ((at + lean) * w, h), ((at + lean + width) * w, h), ((at + width) * w, 0)], fill=colour
        )
    return canvas


def blended(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    """Another photo over 60 % of its width and height, at .6 opacity."""
    canvas, size = image.copy(), (max(1, round(image.width * 0.6)), max(1, round(image.height * 0.6)))
    at = rng.randint(0, image.width - size[0]), rng.randint(0, image.height - size[1])
    below = canvas.crop((*at, at[0] + size[0], at[1] + size[1]))
    canvas.paste(Image.blend(below, ImageOps.fit(other, size), 0.6), at)
    return canvas


def waves(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    """Rows shifted along a wave of 8 pixels."""
    pixels = np.asarray(image)
    rows, columns = np.indices(pixels.shape[:2], dtype=np.float32)
    shift = 8 * np.sin(rows * np.float32(2 * math.pi / rng.uniform(100, 250)))
    moved = cv2.remap(
        pixels,
        np.asarray(columns + shift, np.float32),
        np.asarray(rows, np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return Image.fromarray(np.asarray(moved, dtype=np.uint8))


def strip(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    """Somewhere in a strip of 1 : 12, its width the photo's."""
    ground: Colour = rng.choice([(255, 255, 255), (0, 0, 0), (40, 60, 90)])
    canvas = Image.new("RGB", (image.width, 12 * image.width), ground)
    canvas.paste(image, (0, rng.randint(0, canvas.height - image.height)))
    return canvas


def negative(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    """Brightness inverted."""
    return ImageOps.invert(image)


def chain(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    """Two to four strong edits in a row."""
    for link in rng.sample(_LINKS, rng.choice([2, 3, 4])):
        image = link(image, rng, other)
    return image


def _blur(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(image.size) * rng.uniform(0.004, 0.01)))


def _contrast(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(rng.choice([rng.uniform(0.35, 0.6), rng.uniform(1.5, 2.2)]))


def _brightness(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(rng.choice([rng.uniform(0.4, 0.65), rng.uniform(1.4, 1.8)]))


def _noise(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, rng.uniform(8, 20), pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def _jpeg20(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    return through_jpeg(image, rng.randint(10, 25))


def _small(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    share = rng.uniform(0.35, 0.6)
    return image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))))


def _crop(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    share = rng.uniform(0.7, 0.85)
    w, h = round(image.width * share), round(image.height * share)
    left, top = rng.randint(0, image.width - w), rng.randint(0, image.height - h)
    return image.crop((left, top, left + w, top + h))


def _mirrored(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    return ImageOps.mirror(image)


def _turned(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    return image.rotate(rng.uniform(-20, 20), Image.Resampling.BICUBIC, expand=True)


def _captioned(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    return caption(image, rng)


StrongEdit = Callable[[Image.Image, random.Random, Image.Image], Image.Image]
_LINKS: Final[tuple[StrongEdit, ...]] = (
    _blur, _contrast, _brightness, _noise, _jpeg20, _small, _crop, _mirrored, _turned, _captioned, stripe, perspective,
)  # fmt: skip

STRONG: Final[dict[str, StrongEdit]] = {
    edit.__name__: edit
    for edit in (
        perspective, mild_keystone, photographed, web_page, pasted, stripe, blended, waves, strip, negative, chain,
    )
}  # fmt: skip


def page_with(image: Image.Image, site: int) -> Image.Image:
    """Return a page of one site that shows the image on a quarter of it; headings and text are the site's own."""
    style = random.Random(f"site {site}")
    width, height = style.choice([(1280, 900), (1100, 1100), (900, 1200)])
    ground: Colour = style.choice([(255, 255, 255), (250, 250, 247), (244, 246, 248)])
    page = Image.new("RGB", (width, height), ground)
    draw, face = ImageDraw.Draw(page), style.choice(["DejaVuSans", "DejaVuSerif"])
    bar = tuple(style.randrange(20, 120) for _ in range(3))
    draw.rectangle((0, 0, width, 70), fill=bar)
    draw.text((30, 20), style.choice(_WORDS).title(), fill="white", font=font(face, 28))
    for i in range(5):
        draw.text((250 + 150 * i, 26), style.choice(_WORDS).title(), fill="white", font=font(face, 17))
    side = math.sqrt(width * height / 4 / (image.width * image.height))
    across = min(round(image.width * side), round(width * 0.66))
    shown = image.resize((across, round(image.height * across / image.width)))
    if shown.height > height - 240:
        shown = image.resize((round(image.width * (height - 240) / image.height), height - 240))
    left = style.choice([30, (width - shown.width) // 2])
    draw.text(
        (left, 95),
        " ".join(style.choice(_WORDS) for _ in range(6)).capitalize(),
        fill=(20, 20, 20),
        font=font(face, 30),
    )
    page.paste(shown, (left, 150))
    _paragraphs(draw, style, (left, 165 + shown.height), (width - 30, height - 20), face)
    if left + shown.width + 200 < width:
        _paragraphs(draw, style, (left + shown.width + 30, 150), (width - 30, 150 + shown.height), face)
    return page


def _paragraphs(
    draw: ImageDraw.ImageDraw, style: random.Random, start: tuple[int, int], end: tuple[int, int], face: str
) -> None:
    at = start[1]
    while at + 22 < end[1]:
        line, letters = "", font(face, 15)
        while letters.getlength(longer := f"{line} {style.choice(_WORDS)}".strip()) < end[0] - start[0]:
            line = longer
        draw.text((start[0], at), line, fill=(60, 60, 60), font=letters)
        at += style.choice([22, 22, 22, 22, 40])


def _cornered(image: Image.Image, rng: random.Random, by: Callable[[], float]) -> Image.Image:
    corners = [(0 + by(), 0 + by()), (1 - by(), 0 + by()), (1 - by(), 1 - by()), (0 + by(), 1 - by())]
    ground: Colour = rng.choice([(0, 0, 0), (255, 255, 255), (128, 128, 128)])
    return _warped(image, corners, image.size, ground)


def _warped(
    image: Image.Image, corners: Sequence[tuple[float, float]], size: tuple[int, int], ground: Colour
) -> Image.Image:
    w, h = image.size
    source = np.array([(0, 0), (w, 0), (w, h), (0, h)], dtype=np.float32)
    target = np.array([(x * size[0], y * size[1]) for x, y in corners], dtype=np.float32)
    matrix: NDArray[Any] = cv2.getPerspectiveTransform(source, target)
    warped = cv2.warpPerspective(
        np.asarray(image), matrix, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_CONSTANT, borderValue=ground
    )
    return Image.fromarray(np.asarray(warped, dtype=np.uint8))
