"""Colour variants of photos, as a shop has them, and edits of colour that are none, as seeded functions."""

import random
from collections.abc import Callable
from functools import partial
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

HUES: Final = (60, 120, 180, 240, 300)
"""Degrees by which all hues of a photo are turned; with the photo itself, six."""

ColourEdit = Callable[[Image.Image, random.Random], Image.Image]


def turn_hue(image: Image.Image, rng: random.Random, degrees: float = 180) -> Image.Image:
    """All hues turned, as a photo program does."""
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point([(level + round(degrees * 256 / 360)) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def other_garment(image: Image.Image, rng: random.Random) -> Image.Image:
    """An ellipse of a tenth to a third of the picture in another colour, its shading kept."""
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    lab = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB), dtype=np.float32)
    height, width = lab.shape[:2]
    mask = np.zeros((height, width), dtype=np.float32)
    across, down = rng.uniform(0.2, 0.33) * width, rng.uniform(0.2, 0.33) * height
    at = rng.uniform(0.4, 0.6) * width, rng.uniform(0.4, 0.6) * height
    cv2.ellipse(mask, (round(at[0]), round(at[1])), (round(across), round(down)), 0, 0, 360, 1.0, -1)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), max(1.0, width / 100)), dtype=np.float32)[..., np.newaxis]
    red, yellow = (lab[..., 1:] * mask).sum(axis=(0, 1)).tolist()
    hue, chroma = np.arctan2(yellow, red) + np.radians(rng.uniform(70, 290)), rng.uniform(25, 55)
    lab[..., 1:] += mask * np.subtract(np.array([chroma * np.cos(hue), chroma * np.sin(hue)], np.float32), lab[..., 1:])
    return _image(np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255, dtype=np.float32))


def brightness(image: Image.Image, rng: random.Random) -> Image.Image:
    """A third to a quarter brighter or darker."""
    return ImageEnhance.Brightness(image).enhance(rng.choice([rng.uniform(0.65, 0.85), rng.uniform(1.15, 1.35)]))


def contrast(image: Image.Image, rng: random.Random) -> Image.Image:
    """More contrast or less."""
    return ImageEnhance.Contrast(image).enhance(rng.choice([rng.uniform(0.6, 0.85), rng.uniform(1.15, 1.5)]))


def saturation(image: Image.Image, rng: random.Random) -> Image.Image:
    """More colour or less."""
    return ImageEnhance.Color(image).enhance(rng.choice([rng.uniform(0.4, 0.8), rng.uniform(1.2, 1.6)]))


def tint(image: Image.Image, rng: random.Random) -> Image.Image:
    """Warmer or colder: red and blue multiplied by opposite factors."""
    by = rng.uniform(0.7, 0.9)
    gains = np.array([1, (1 + by) / 2, by] if rng.random() < 0.5 else [by, (1 + by) / 2, 1])
    return _image(np.asarray(image, dtype=np.float32) * gains)


def _image(pixels: NDArray[np.float64] | NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))


VARIANTS: Final[dict[str, ColourEdit]] = {
    **{f"hue {degrees}°": partial(turn_hue, degrees=degrees) for degrees in HUES},
    "garment": other_garment,
}
LIGHT: Final[dict[str, ColourEdit]] = {
    "brightness": brightness, "contrast": contrast, "saturation": saturation, "tint": tint,
}  # fmt: skip
