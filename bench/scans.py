"""What becomes of a document that is the same page still: scanned, re-encoded, shrunk."""

import io
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image


def scanned(image: Image.Image, seed: int) -> Image.Image:
    """Print and scan: turned by up to 1°, at 80 % of the size, grey paper, noise, JPEG 60."""
    rng = np.random.default_rng(seed)
    paper = int(rng.integers(225, 246))
    turned = image.rotate(
        rng.choice([-1, 1]) * rng.uniform(0.5, 1), Image.Resampling.BICUBIC, fillcolor=(255, 255, 255)
    )
    small = turned.resize([round(0.8 * side) for side in turned.size], Image.Resampling.LANCZOS)
    grey = np.asarray(small, dtype=np.float32) * (paper - 20) / 255 + 20 + rng.normal(0, 5, (*small.size[::-1], 1))
    return through_jpeg(Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)), 60)


def through_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Encode as JPEG and decode again."""
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=quality)
    return Image.open(packed).convert("RGB")


def reencoded(image: Image.Image, seed: int) -> Image.Image:
    """Encode as JPEG of quality 60."""
    return through_jpeg(image, 60)


def halved(image: Image.Image, seed: int) -> Image.Image:
    """Shrink to half the size."""
    return image.resize([max(1, side // 2) for side in image.size], Image.Resampling.LANCZOS)


SCANS: Final[dict[str, Callable[[Image.Image, int], Image.Image]]] = {
    "scanned": scanned,
    "re-encoded": reencoded,
    "half size": halved,
}
