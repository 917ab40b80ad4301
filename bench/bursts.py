"""Frames of bursts: one scene in which something moved, drawn or composed of two photos, as seeded functions.

The subject moves by 10 to 40 pixels of a picture of 800. Each frame has its own noise and its own JPEG.
"""

import math
import random
from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from bench.scans import through_jpeg

Burst = Callable[[Image.Image, Image.Image, random.Random], tuple[Image.Image, Image.Image]]
"""From two photos, two frames."""

_OF: Final = 800
_STEPS: Final = (10.0, 40.0)
_NOISE: Final = 2.0


def drawn(photo: Image.Image, other: Image.Image, rng: random.Random) -> tuple[Image.Image, Image.Image]:
    """A drawn figure before a drawn ground; the photos are not used."""
    size = rng.choice([(800, 600), (600, 800), (800, 450)])
    return _frames(_ground(size, rng), *_figure(size, rng), rng, pan=0)


def cut_out(photo: Image.Image, other: Image.Image, rng: random.Random) -> tuple[Image.Image, Image.Image]:
    """A piece of the other photo, before the photo."""
    return _frames(photo, *_piece(other, photo.size, rng), rng, pan=0)


def panned(photo: Image.Image, other: Image.Image, rng: random.Random) -> tuple[Image.Image, Image.Image]:
    """The same, and the camera moved: the ground is shifted as well, by less."""
    return _frames(photo, *_piece(other, photo.size, rng), rng, pan=rng.uniform(3, 9))


BURSTS: Final[dict[str, Burst]] = {"drawn": drawn, "cut out": cut_out, "panned": panned}


def _frames(
    ground: Image.Image, subject: Image.Image, mask: Image.Image, rng: random.Random, pan: float
) -> tuple[Image.Image, Image.Image]:
    unit = max(ground.size) / _OF
    step, turn = rng.uniform(*_STEPS) * unit, rng.uniform(0, 2 * math.pi)
    move = step * math.cos(turn), step * math.sin(turn)
    left = rng.uniform(max(0, -move[0]), ground.width - subject.width - max(0, move[0]))
    top = rng.uniform(max(0, -move[1]), ground.height - subject.height - max(0, move[1]))
    frames = []
    for share in (0.0, 1.0):
        shift = round(pan * unit * share)
        frame = (
            ground.transform(ground.size, Image.Transform.AFFINE, (1, 0, shift, 0, 1, 0)) if shift else ground.copy()
        )
        frame.paste(subject, (round(left + share * move[0]), round(top + share * move[1])), mask)
        # what the camera leaves behind is not in the frame
        frame = frame.crop((0, 0, ground.width - shift, ground.height))
        frames.append(through_jpeg(_noisy(frame, rng), quality=88))
    return frames[0], frames[1]


def _piece(photo: Image.Image, of: tuple[int, int], rng: random.Random) -> tuple[Image.Image, Image.Image]:
    """Return a piece from the middle of a photo, for a ground of this size, and its soft mask, a blob."""
    side = round(rng.uniform(0.2, 0.45) * min(of))
    size = side, round(min(side * rng.uniform(0.8, 1.8), 0.7 * of[1]))
    share = rng.uniform(0.5, 0.8)
    width, height = photo.width * share, photo.height * share
    box = (photo.width - width) / 2, (photo.height - height) / 2, (photo.width + width) / 2, (photo.height + height) / 2
    piece = photo.resize(size, Image.Resampling.LANCZOS, box=box)
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    waves = [0.03 * np.sin(k * angles + rng.uniform(0, 6)) for k in (2, 3, 5)]
    radius = 0.42 + np.sum(waves, axis=0)
    points = [
        (size[0] * (0.5 + r * math.cos(a)), size[1] * (0.5 + r * math.sin(a)))
        for r, a in zip(radius.tolist(), angles.tolist(), strict=True)
    ]
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon(points, fill=255)
    return piece, mask.filter(ImageFilter.GaussianBlur(1))


def _ground(size: tuple[int, int], rng: random.Random) -> Image.Image:
    noise = np.random.default_rng(rng.getrandbits(32))
    pixels = np.zeros((size[1], size[0], 3), dtype=np.float32)
    for cells, weight in ((4, 90), (12, 40), (60, 22), (200, 14)):
        rows = max(2, round(cells * size[1] / size[0]))
        layer = noise.uniform(-1, 1, (rows, cells, 3)).astype(np.float32)
        pixels += weight * cv2.resize(layer, size, interpolation=cv2.INTER_CUBIC)
    image = _image(pixels + 128)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(6, 14)):
        x, y, wide, high = rng.randrange(size[0]), rng.randrange(size[1]), rng.randint(20, 160), rng.randint(20, 160)
        colour = rng.randrange(256), rng.randrange(256), rng.randrange(256)
        shape = draw.rectangle if rng.random() < 0.5 else draw.ellipse
        shape((x, y, x + wide, y + high), fill=colour, outline=(30, 30, 30))
    return image


def _figure(size: tuple[int, int], rng: random.Random) -> tuple[Image.Image, Image.Image]:
    """Return a figure with a head, a striped body and legs, and its mask."""
    high = round(rng.uniform(0.3, 0.6) * size[1])
    wide = round(0.45 * high)
    figure, mask = Image.new("RGB", (wide, high)), Image.new("L", (wide, high))
    skin, cloth, legs = (tuple(rng.randrange(30, 230) for _ in range(3)) for _ in range(3))
    for image, colours in ((figure, (skin, cloth, legs)), (mask, (255, 255, 255))):
        draw = ImageDraw.Draw(image)
        draw.ellipse((0.3 * wide, 0, 0.7 * wide, 0.22 * high), fill=colours[0])
        draw.rectangle((0.15 * wide, 0.22 * high, 0.85 * wide, 0.62 * high), fill=colours[1])
        draw.rectangle((0.2 * wide, 0.62 * high, 0.45 * wide, high), fill=colours[2])
        draw.rectangle((0.55 * wide, 0.62 * high, 0.8 * wide, high), fill=colours[2])
    draw = ImageDraw.Draw(figure)
    for y in range(round(0.25 * high), round(0.6 * high), max(4, high // 14)):
        draw.line((0.15 * wide, y, 0.85 * wide, y + rng.randint(-4, 4)), fill=skin, width=2)
    draw.ellipse((0.4 * wide, 0.07 * high, 0.46 * wide, 0.1 * high), fill=(20, 20, 20))
    draw.ellipse((0.54 * wide, 0.07 * high, 0.6 * wide, 0.1 * high), fill=(20, 20, 20))
    return figure, mask


def _noisy(image: Image.Image, rng: random.Random) -> Image.Image:
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, _NOISE, (image.height, image.width, 3))
    return _image(np.asarray(image, dtype=np.float32) + noise)


def _image(pixels: NDArray[np.float32] | NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))
