import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from imagetools.edits import EDITS
from imagetools.features.extract import extract
from imagetools.matching import geometry
from imagetools.matching.appearance import Appearance
from imagetools.matching.colours import ColourChange
from imagetools.matching.config import MatcherConfig
from imagetools.matching.edit_description import Shape, describe, shape_of
from imagetools.matching.motion import Motion
from imagetools.matching.verify import verify
from tests.support.pictures import SAMPLES, photo

CONFIG = MatcherConfig()
AS_IT_WAS = Appearance(covered=0, colours=ColourChange(), flat=0, around_flat=0, shrunk=1)
HUES, LIGHTER, GREY = ColourChange(30.0, hue=True), ColourChange(9.0), ColourChange(20.0, grey=True)
WORDS = {
    "jpeg15": {"re-encoded"},
    "quarter_size": {"resized to 25 %"},
    "crop40": {"cropped to 39 %", "cropped to 40 %", "cropped to 41 %"},
    "turn90": {"turned 90° left", "turned 90° right"},
    "grey": {"without colour"},
    "caption": {"partly covered, something added", "partly covered"},
    "patch": {"partly covered, something added", "partly covered"},
    "crop": {"cropped to 59 %", "cropped to 60 %", "cropped to 61 %"},
    "flip_horizontal": {"mirrored"},
    "flip_vertical": {"mirrored top to bottom"},
}


@pytest.mark.parametrize("name", WORDS)
def test_a_known_edit_is_named(name: str) -> None:
    for number in (4, 8, 12, 16):
        original = photo(SAMPLES[number])
        copy = EDITS[name](original, random.Random(number), photo(SAMPLES[number - 1]))
        assert verify(extract(copy, CONFIG), extract(original, CONFIG), CONFIG).edit in WORDS[name]


@pytest.mark.parametrize(
    ("name", "word"),
    [("padding", "padded"), ("collage", "pasted into a larger picture"), ("screenshot", "pasted into a larger picture"),
     ("turn25", "turned 25° left"), ("square", "stretched")],
)  # fmt: skip
def test_the_first_word_of_a_compound_edit(name: str, word: str) -> None:
    for number in (4, 12, 20):
        original = photo(SAMPLES[number])
        copy = EDITS[name](original, random.Random(number), photo(SAMPLES[number - 1]))
        assert verify(extract(copy, CONFIG), extract(original, CONFIG), CONFIG).edit.split(", ")[0] == word


@pytest.mark.parametrize("factor", [(0.7, 0.7, 0.7), (1, 0.85, 0.7)])
def test_a_change_of_brightness_or_tint_is_an_adjustment(factor: tuple[float, float, float]) -> None:
    original = photo(SAMPLES[8])
    scaled = (
        band.point([round(level * by) for level in range(256)])
        for band, by in zip(original.split(), factor, strict=True)
    )
    copy = Image.merge("RGB", list(scaled))
    assert verify(extract(copy, CONFIG), extract(original, CONFIG), CONFIG).edit == "colours adjusted"


@given(st.floats(-179, 179), st.floats(0.3, 3), st.floats(1, 1.5), st.booleans())
def test_a_map_is_read_back(angle: float, scale: float, stretch: float, mirrored: bool) -> None:
    turn = math.radians(angle)
    # y points down: counter-clockwise is a turn the other way
    linear = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    linear = scale * linear @ np.diag([stretch**0.5, stretch**-0.5])
    affine = np.column_stack([linear, [3.0, 4.0]])
    if mirrored:
        affine = geometry.compose(affine, geometry.mirror_map(100))
    shape = shape_of(affine, (100, 80), (50, 70))
    assert shape.mirrored == mirrored
    assert shape.angle == pytest.approx(angle, abs=1e-6)
    assert shape.stretch == pytest.approx(stretch)
    assert shape.scale == pytest.approx(scale * 100 / 70)


@pytest.mark.parametrize(
    ("shape", "appearance", "covered", "words"),
    [
        (Shape(False, 1, 0, 1), AS_IT_WAS, (1, 1), "re-encoded"),
        (Shape(True, 1, 0, 1), AS_IT_WAS, (1, 1), "mirrored"),
        (Shape(True, 1, 180, 1), AS_IT_WAS, (1, 1), "mirrored top to bottom"),
        (Shape(False, 1, 180, 1), AS_IT_WAS, (1, 1), "upside down"),
        (Shape(False, 1, -91, 1), AS_IT_WAS, (1, 1), "turned 90° right"),
        (Shape(True, 1.6, 1, 1), AS_IT_WAS, (1, 0.4), "mirrored, cropped to 40 %"),
        (Shape(False, 1, -25, 1), AS_IT_WAS, (1, 1), "turned 25° right"),
        (Shape(False, 1, 0, 1), replace(AS_IT_WAS, equal=True), (1, 1), "identical pixels"),
        (Shape(False, 0.5, 0, 1), replace(AS_IT_WAS, flat=1, colours=HUES), (0.5, 1), "padded, recoloured"),
        (Shape(False, 1, 0, 1), replace(AS_IT_WAS, colours=LIGHTER), (1, 1), "colours adjusted"),
        (Shape(False, 1, 0, 1), replace(AS_IT_WAS, shrunk=0.5), (1, 1), "resized to 50 %"),
        (Shape(False, 1, 0, 1), replace(AS_IT_WAS, shrunk=1100), (1, 1), "much larger"),
        (Shape(False, 1, 0, 1), replace(AS_IT_WAS, shrunk=0.004), (1, 1), "much smaller"),
        (
            Shape(False, 1, 0, 1.8),
            replace(AS_IT_WAS, covered=0.1, colours=GREY),
            (1, 1),
            "partly covered, stretched, without colour",
        ),
    ],
)
def test_words(shape: Shape, appearance: Appearance, covered: tuple[float, float], words: str) -> None:
    assert describe(shape, appearance, *covered) == words


@pytest.mark.parametrize(
    ("motion", "sharpness", "covered", "words"),
    [
        (Motion(0.1, 0.05), 1.0, 0.1, "same scene, moved"),
        (Motion(0.1, 0.0), 1.0, 0.1, "partly covered"),
        (Motion(0.02, 0.0), 1.0, 0.02, "differs in places"),
        (Motion(0.002, 0.0), 1.0, 0.0, "re-encoded"),
        (Motion(0.02, 0.0), 0.02, 0.02, "blurred"),
        (Motion(0.02, 0.0), 50.0, 0.02, "sharpened"),
        (Motion(0.02, 0.0), 50.0, 0.1, "partly covered"),
    ],
)
def test_words_of_a_closer_look(motion: Motion, sharpness: float, covered: float, words: str) -> None:
    look = replace(AS_IT_WAS, covered=covered)
    assert describe(Shape(False, 1, 0, 1), look, 1, 1, motion=motion, sharpness=sharpness) == words


@pytest.mark.parametrize("number", [0, 4, 8, 12, 20])
def test_a_blur_is_said(number: int) -> None:
    original = photo(SAMPLES[number])
    copy = original.filter(ImageFilter.GaussianBlur(max(original.size) / 100))
    assert verify(extract(copy, CONFIG), extract(original, CONFIG), CONFIG).edit == "blurred"
    assert verify(extract(original, CONFIG), extract(copy, CONFIG), CONFIG).edit == "sharpened"


@pytest.mark.parametrize("degrees", [2, 3, -8])
def test_a_small_turn_is_said_and_nothing_else(degrees: int) -> None:
    for number in (4, 8, 20):
        original = photo(SAMPLES[number])
        copy = original.rotate(degrees, Image.Resampling.BICUBIC)
        found = verify(extract(copy, CONFIG), extract(original, CONFIG), CONFIG)
        assert found.edit == f"turned {abs(degrees)}° {'left' if degrees > 0 else 'right'}"


def test_a_small_cut_is_said() -> None:
    original = photo(SAMPLES[8])
    copy = original.crop((0, 0, original.width, round(0.95 * original.height)))
    assert verify(extract(copy, CONFIG), extract(original, CONFIG), CONFIG).edit == "cropped to 95 %"


def test_a_small_sticker_is_no_encoding() -> None:
    original = photo(SAMPLES[8])
    copy = original.copy()
    copy.paste(
        (250, 220, 20), (original.width // 2, original.height // 3, original.width * 2 // 3, original.height // 2)
    )
    assert verify(extract(copy, CONFIG), extract(original, CONFIG), CONFIG).edit in (
        "partly covered, something added",
        "something added",
    )


def test_equal_pixels_are_said_to_be_identical() -> None:
    original = photo(SAMPLES[8])
    assert verify(extract(original, CONFIG), extract(original.copy(), CONFIG), CONFIG).edit == "identical pixels"
