"""Stripes across one of two pictures are recognised at any slant, and told from what both have."""

import random

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from bench.documents import document
from imagetools.features.extract import extract
from imagetools.matching.config import MatcherConfig
from imagetools.matching.planes import Grey
from imagetools.matching.stripes import find_stripe
from imagetools.matching.verify import ImageOpener, verify

CONFIG = MatcherConfig()
SIZE = (400, 520)
Corner = tuple[float, float]


def garment(seed: int) -> Image.Image:
    """Something patterned on a white ground, as shops show it."""
    rng = random.Random(seed)
    cloth = Image.frombytes("RGB", (10, 13), rng.randbytes(10 * 13 * 3)).resize(SIZE, Image.Resampling.BICUBIC)
    shape = Image.new("L", SIZE)
    draw = ImageDraw.Draw(shape)
    draw.polygon(
        [(130, 60), (270, 60), (360, 200), (280, 220), (290, 470), (110, 470), (120, 220), (40, 200)], fill=255
    )
    return Image.composite(cloth, Image.new("RGB", SIZE, "white"), shape.filter(ImageFilter.GaussianBlur(1)))


def lying(top: float, lean: float, width: float) -> list[Corner]:
    return [(0, top), (SIZE[0], top + lean), (SIZE[0], top + lean + width), (0, top + width)]


def upright(left: float, lean: float, width: float) -> list[Corner]:
    return [(left, 0), (left + lean, SIZE[1]), (left + lean + width, SIZE[1]), (left + width, 0)]


def striped(image: Image.Image, corners: list[Corner], fill: str = "teal") -> Image.Image:
    canvas = image.copy()
    ImageDraw.Draw(canvas).polygon(corners, fill=fill)
    return canvas


def grey(image: Image.Image) -> Grey:
    return np.asarray(image.convert("L"))


STRIPES = [lying(150, 0, 120), lying(150, 70, 120), lying(220, -90, 150), upright(140, 0, 90), upright(140, -60, 100)]


@pytest.mark.parametrize("corners", STRIPES)
@pytest.mark.parametrize("in_first", [True, False])
def test_a_stripe_is_found_where_it_lies(corners, in_first):
    plain, copy = grey(garment(1)), grey(striped(garment(1), corners))
    found = find_stripe(copy, plain) if in_first else find_stripe(plain, copy)
    assert found is not None
    assert found.in_first == in_first
    drawn = cv2.fillPoly(np.zeros(plain.shape, np.uint8), [np.array(corners, np.int32)], (1,)) > 0
    assert (found.mask & drawn).sum() > 0.95 * drawn.sum()
    assert (found.mask & ~drawn).sum() < 0.15 * drawn.sum()


def test_a_stripe_of_both_is_none_and_other_clothes_are_none():
    corners = lying(150, 70, 120)
    assert find_stripe(grey(garment(1)), grey(garment(1))) is None
    assert find_stripe(grey(garment(1)), grey(garment(2))) is None
    assert find_stripe(grey(striped(garment(1), corners)), grey(striped(garment(2), corners))) is None


def test_what_has_a_pattern_is_no_stripe():
    plain, mask = garment(1), Image.new("L", SIZE)
    ImageDraw.Draw(mask).polygon(lying(150, 70, 120), fill=255)
    other = Image.composite(garment(2).crop((60, 100, 300, 400)).resize(SIZE), plain, mask)
    assert find_stripe(grey(plain), grey(other)) is None


def test_paper_between_two_lines_is_no_stripe():
    ruled = garment(1)
    for y in (150, 270):
        ImageDraw.Draw(ruled).line([(0, y), (SIZE[0], y)], fill="black", width=3)
    ImageDraw.Draw(ruled).rectangle((0, 152, SIZE[0], 268), fill="white")
    assert find_stripe(grey(garment(1)), grey(ruled)) is None


def opening(image: Image.Image) -> ImageOpener:
    return lambda _box: image


def verdict(one: Image.Image, two: Image.Image) -> bool:
    return verify(extract(one, CONFIG), extract(two, CONFIG), CONFIG, (opening(one), opening(two))).duplicate


@pytest.mark.parametrize("corners", [lying(150, 70, 110), upright(140, -60, 90)])
def test_a_slanted_stripe_on_a_white_ground_leaves_a_copy_and_other_clothes_remain_others(corners):
    copy = striped(garment(1), corners)
    assert verdict(copy, garment(1))
    assert verdict(garment(1), copy)
    assert not verdict(copy, garment(2))
    assert not verdict(copy, striped(garment(2), corners))


def test_a_stripe_does_not_let_other_content_pass():
    one, two = document("form", 2, 2), document("form", 2, 3)
    width, height = one.size
    band: list[Corner] = [(0, 0.3 * height), (width, 0.4 * height), (width, 0.55 * height), (0, 0.45 * height)]
    assert verdict(one, striped(one, band))
    assert not verdict(one, striped(two, band))
    assert not verdict(striped(one, band), striped(two, band))
