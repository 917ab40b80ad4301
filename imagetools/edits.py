"""Edits that copies of a photo go through, as seeded functions on RGB images.

`EDITS` holds twelve heavy ones and the five of imagededup's evaluation: crop, both flips, a 25° turn, a resize to a
square. The same seed gives the same edit. `other`, a second photo, is the background of a collage and the picture on
a patch; without it both are random colour blobs.
"""

import io
import math
import random
from typing import Final, Protocol

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from imagetools import overlays


class Edit(Protocol):
    """One edit: the image is left as it is, a new RGB image is returned."""

    def __call__(self, image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
        """Return the edited copy."""
        ...


def jpeg15(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """Encoded as JPEG of quality 15 and decoded again."""
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=15)
    return Image.open(packed).convert("RGB")


def quarter_size(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """Width and height a quarter each."""
    return _resized(image, image.width / 4, image.height / 4)


def crop40(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """40 % of the area kept, anywhere, of a shape up to a quarter wider or taller than the original."""
    return _cropped(image, rng, 0.4, stretch=rng.uniform(0.8, 1.25))


def turn90(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """A quarter turn, left or right."""
    return image.transpose(rng.choice([Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270]))


def colour(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """Brightness, contrast, saturation and hue shifted."""
    hue, saturation, value = image.convert("HSV").split()
    shift = rng.randrange(-20, 21)
    turned = hue.point([(level + shift) % 256 for level in range(256)])
    image = Image.merge("HSV", (turned, saturation, value)).convert("RGB")
    image = ImageEnhance.Color(image).enhance(rng.uniform(0.5, 1.6))
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.7, 1.3))
    return ImageEnhance.Contrast(image).enhance(rng.uniform(0.7, 1.4))


def grey(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """Without colour."""
    return image.convert("L").convert("RGB")


def blur(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """A Gaussian blur of 1 % of the longer side."""
    return image.filter(ImageFilter.GaussianBlur(max(1.0, max(image.size) / 100)))


def caption(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """A bar with text over the top or the bottom sixth."""
    return overlays.caption(image, rng)


def patch(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """16 % of the area, in one rectangle anywhere, covered by another picture."""
    stretch = math.sqrt(rng.uniform(0.6, 1.6))
    width = max(1, min(image.width, round(image.width * 0.4 * stretch)))
    height = max(1, min(image.height, round(image.height * 0.4 / stretch)))
    cover = ImageOps.fit(_other(other, rng), (width, height))
    canvas = image.copy()
    canvas.paste(cover, (rng.randint(0, image.width - width), rng.randint(0, image.height - height)))
    return canvas


def padding(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """A flat border: a letterbox, or one around all sides, of 10 to 25 % a side."""
    across, down = (rng.uniform(0.1, 0.25) for _ in range(2))
    kind = rng.choice(["both", "across", "down"])
    x = 0 if kind == "down" else round(image.width * across)
    y = 0 if kind == "across" else round(image.height * down)
    ground = rng.choice([(0, 0, 0), (255, 255, 255), tuple(rng.randrange(256) for _ in range(3))])
    canvas = Image.new("RGB", (image.width + 2 * x, image.height + 2 * y), ground)
    canvas.paste(image, (x, y))
    return canvas


def collage(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """One cell of two, or of four, the rest filled with another picture."""
    columns, rows = rng.choice([(2, 1), (1, 2), (2, 2)])
    size = image.size
    gap = max(size) // 50
    canvas = Image.new("RGB", (columns * size[0] + (columns - 1) * gap, rows * size[1] + (rows - 1) * gap), "white")
    own = rng.randrange(columns * rows)
    background = ImageOps.fit(_other(other, rng), size)
    fillings = [background, ImageOps.mirror(background), ImageOps.flip(background), ImageOps.grayscale(background)]
    for cell in range(columns * rows):
        at = ((cell % columns) * (size[0] + gap), (cell // columns) * (size[1] + gap))
        canvas.paste(image if cell == own else fillings[cell].convert("RGB"), at)
    return canvas


def screenshot(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """On a phone's screen, inside an app."""
    return overlays.screenshot(image, rng)


def crop(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """60 % of the area kept, anywhere, of the original's shape."""
    return _cropped(image, rng, 0.6, stretch=1)


def flip_horizontal(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """Left and right exchanged."""
    return ImageOps.mirror(image)


def flip_vertical(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """Top and bottom exchanged."""
    return ImageOps.flip(image)


def turn25(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """Turned by 25°, the size kept: corners are lost, and black ones come in."""
    return image.rotate(25, Image.Resampling.BICUBIC)


def square(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    """Stretched to a square of the shorter side."""
    return _resized(image, min(image.size), min(image.size))


HEAVY: Final[tuple[Edit, ...]] = (
    jpeg15, quarter_size, crop40, turn90, colour, grey, blur, caption, patch, padding, collage, screenshot,
)  # fmt: skip
IMAGEDEDUP: Final[tuple[Edit, ...]] = (crop, flip_horizontal, flip_vertical, turn25, square)
EDITS: Final[dict[str, Edit]] = {edit.__name__: edit for edit in HEAVY + IMAGEDEDUP}  # type: ignore[attr-defined]


def _resized(image: Image.Image, width: float, height: float) -> Image.Image:
    return image.resize((max(1, round(width)), max(1, round(height))), Image.Resampling.LANCZOS)


def _cropped(image: Image.Image, rng: random.Random, area: float, stretch: float) -> Image.Image:
    """Keep `area` of the image, `stretch` times as wide for its height as the image."""
    width = max(1, min(image.width, round(image.width * math.sqrt(area * stretch))))
    height = max(1, min(image.height, round(image.height * math.sqrt(area / stretch))))
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def _other(other: Image.Image | None, rng: random.Random) -> Image.Image:
    """Return the second photo, or smooth random colours where there is none."""
    if other is not None:
        return other
    small = Image.frombytes("RGB", (16, 12), rng.randbytes(16 * 12 * 3))
    return small.resize((320, 240), Image.Resampling.BICUBIC)
