"""The pictures inside pictures: those that people put together are found, and a photograph is left whole."""

import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from imagetools.edits import EDITS
from imagetools.fingerprint.encoder import Encoder
from imagetools.fingerprint.parts import MAX_AREA, MAX_PARTS, MIN_SIDE, PartBox, find_parts
from tests.support.pictures import SAMPLES, photo


def scene(n: int) -> Image.Image:
    """One of the sample photos."""
    return photo(SAMPLES[n % len(SAMPLES)])


def close(part: PartBox, box: tuple[float, float, float, float]) -> bool:
    return np.allclose((part.left, part.top, part.right, part.bottom), box, atol=0.03)


def grid(columns: int, rows: int, gap: int, size: tuple[int, int] = (900, 700)) -> tuple[Image.Image, list]:
    """A collage, and the boxes of its cells."""
    canvas = Image.new("RGB", size, "white")
    width, height = ((length - gap * (n - 1)) // n for length, n in zip(size, (columns, rows), strict=True))
    boxes = []
    for n, (row, column) in enumerate(product(range(rows), range(columns))):
        x, y = column * (width + gap), row * (height + gap)
        cell = scene(n).resize((width, height))
        # without a line between them, cells are told by what they show, and these photos are alike at their borders
        canvas.paste(ImageOps.invert(cell) if gap == 0 and (row + column) % 2 else cell, (x, y))
        boxes.append((x / size[0], y / size[1], (x + width) / size[0], (y + height) / size[1]))
    return canvas, boxes


@pytest.mark.parametrize(("columns", "rows"), [(2, 1), (1, 2), (2, 2), (3, 2), (3, 3)])
@pytest.mark.parametrize("gap", [0, 9, 30])
def test_the_cells_of_a_collage(columns, rows, gap):
    canvas, boxes = grid(columns, rows, gap)
    parts = find_parts(canvas)
    found = [box for box in boxes if any(close(part, box) for part in parts)]
    assert len(found) >= len(boxes) * 0.8, parts


def test_the_photo_in_a_screenshot_and_in_a_letterbox():
    for edit in ("screenshot", "padding"):
        hits = 0
        for seed in range(10):
            parts = find_parts(EDITS[edit](scene(seed), random.Random(seed)))
            hits += bool(parts)
            assert all(part.area <= MAX_AREA for part in parts)
        assert hits >= 8, edit


def test_a_photograph_is_left_whole():
    parted = [seed for seed in range(40) if find_parts(scene(seed))]
    assert len(parted) <= 2, parted


@pytest.mark.parametrize("edit", ["turn25", "blur", "jpeg15", "flip_horizontal"])
def test_an_edit_that_puts_nothing_together_adds_no_part(edit):
    parted = [seed for seed in range(20) if find_parts(EDITS[edit](scene(seed), random.Random(seed)))]
    assert len(parted) <= 1, parted


def test_a_product_on_white_is_no_part():
    image = Image.new("RGB", (640, 480), "white")
    ImageDraw.Draw(image).ellipse((200, 120, 440, 360), fill="red")
    assert find_parts(image) == []


@pytest.mark.parametrize("colour", ["white", "black", (13, 200, 77)])
@pytest.mark.parametrize("size", [(1, 1), (2, 700), (640, 480)])
def test_one_colour_has_no_parts(colour, size):
    assert find_parts(Image.new("RGB", size, colour)) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 400), st.integers(1, 400), st.integers(1, 12))
def test_any_image_of_any_size_has_parts_within_it(seed, width, height, blocks):
    rng = np.random.default_rng(seed)
    mosaic = rng.integers(0, 256, (blocks, blocks, 3), np.uint8)
    parts = find_parts(Image.fromarray(mosaic).resize((width, height), Image.Resampling.NEAREST))
    assert len(parts) <= MAX_PARTS
    for part in parts:
        assert 0 <= part.left < part.right <= 1
        assert 0 <= part.top < part.bottom <= 1
        assert min(part.right - part.left, part.bottom - part.top) >= MIN_SIDE - 1e-9
        cut = part.cut(Image.new("RGB", (width, height)))
        assert min(cut.size) >= 1


def test_a_part_has_the_fingerprint_of_the_photo_that_it_shows(tmp_path):
    photo = scene(3)
    canvas, _ = grid(2, 2, 20, (1600, 1200))
    canvas.paste(photo.resize((790, 590)), (810, 610))
    canvas.save(tmp_path / "collage.jpg", quality=90)
    encoder = Encoder.load()
    (found,) = encoder.describe([encoder.read((tmp_path / "collage.jpg").read_bytes(), "collage.jpg")])
    assert found.fingerprint.shape == (encoder.dimension,)
    (wanted,) = encoder.encode([photo])
    best = max(found.parts, key=lambda part: float(part[1] @ wanted))
    assert close(best[0], (810 / 1600, 610 / 1200, 1.0, 1.0))
    assert float(best[1] @ wanted) > 0.95 > float(found.fingerprint @ wanted) + 0.1
