import io
import random

import numpy as np
import pytest
from PIL import Image, ImageOps

from bench.colour_variants import LIGHT, other_garment, turn_hue
from imagetools.edits import EDITS
from imagetools.features.extract import extract
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import Verification, verify
from tests.support.pictures import SAMPLES, photo

CONFIG = MatcherConfig()
SHOP = MatcherConfig(alert_recoloured=False)
NUMBERS = (4, 8, 20)


def _verify(candidate: Image.Image, neighbor: Image.Image, config: MatcherConfig = CONFIG) -> Verification:
    return verify(extract(candidate, config), extract(neighbor, config), config)


def _jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file).convert("RGB")


def _colourful(number: int) -> Image.Image:
    """A sample under a strong tint that differs from left to right, so that any of them has hues to turn."""
    pixels = np.asarray(photo(SAMPLES[number]), dtype=np.float32)
    across = np.linspace(0, 1, pixels.shape[1])[np.newaxis, :, np.newaxis]
    gains = (1 - across) * [1.0, 0.6, 0.5] + across * [0.6, 1.0, 0.7]
    return Image.fromarray((pixels * gains).astype(np.uint8))


@pytest.mark.parametrize("degrees", [60, 120, 180, 240, 300])
def test_turned_hues_are_recoloured(degrees: int) -> None:
    for number in NUMBERS:
        original = _colourful(number)
        found = _verify(_jpeg(turn_hue(original, random.Random(0), degrees)), original)
        assert (found.duplicate, found.relation, found.edit) == (True, "same", "recoloured")
        assert found.recoloured > 10


@pytest.mark.parametrize("number", NUMBERS)
def test_a_garment_of_another_colour_is_recoloured(number: int) -> None:
    original = photo(SAMPLES[number])
    variant = ImageOps.mirror(other_garment(original, random.Random(number)))
    found = _verify(variant, original)
    assert (found.duplicate, found.edit) == (True, "mirrored, recoloured")
    left_out = _verify(variant, original, SHOP)
    assert (left_out.duplicate, left_out.relation, left_out.gate, left_out.edit) == (
        False, "recoloured", "recoloured", "",
    )  # fmt: skip
    assert left_out.score == found.score


@pytest.mark.parametrize("name", LIGHT)
def test_an_adjustment_is_no_other_colour(name: str) -> None:
    for number in NUMBERS:
        original = _colourful(number)
        found = _verify(LIGHT[name](original, random.Random(number)), original, SHOP)
        assert found.duplicate
        assert "recoloured" not in found.edit


@pytest.mark.parametrize("name", sorted(set(EDITS) - {"colour", "collage"}))
def test_no_other_edit_is_recoloured(name: str) -> None:
    for number in NUMBERS:
        original = photo(SAMPLES[number])
        copy = EDITS[name](original, random.Random(number), photo(SAMPLES[number - 1]))
        found = _verify(copy, original, SHOP)
        assert found.duplicate
        assert "recoloured" not in found.edit
        assert ("without colour" in found.edit) == (name == "grey")
        assert found.recoloured < 5 or name == "grey"


def test_both_ways_decide_the_same() -> None:
    for number in NUMBERS:
        original = photo(SAMPLES[number])
        for seed in range(4):
            variant = other_garment(original, random.Random(seed))
            there, back = _verify(variant, original, SHOP), _verify(original, variant, SHOP)
            assert (there.duplicate, there.relation) == (back.duplicate, back.relation)


def test_a_white_thing_in_red_is_no_grey_copy() -> None:
    paper = Image.fromarray(np.random.default_rng(3).integers(90, 140, (60, 80), dtype=np.uint8)).resize((400, 300))
    white, red = paper.convert("RGB"), paper.convert("RGB")
    shade = Image.linear_gradient("L").resize((200, 150))
    white.paste(shade.point([128 + level // 2 for level in range(256)]), (100, 75))
    red.paste(ImageOps.colorize(shade, (90, 0, 0), (230, 40, 40)), (100, 75))
    found = _verify(red, white)
    assert found.duplicate
    assert found.edit.endswith("recoloured")
