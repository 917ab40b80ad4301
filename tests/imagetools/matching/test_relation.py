import random

import pytest
from PIL import Image, ImageOps

from imagetools.edits import EDITS
from imagetools.features.extract import extract
from imagetools.matching.config import MatcherConfig
from imagetools.matching.relation import RELATIONS, relation_of
from imagetools.matching.verify import Verification, verify
from tests.support.pictures import SAMPLES, photo
from tests.support.streaming import scene

CONFIG = MatcherConfig()
WHOLE = [
    "jpeg15", "quarter_size", "turn90", "colour", "grey", "blur", "caption", "patch", "padding", "flip_horizontal",
    "flip_vertical", "turn25", "square",
]  # fmt: skip


def _verify(candidate: Image.Image, neighbor: Image.Image) -> Verification:
    looks = (lambda box: candidate), (lambda box: neighbor)
    return verify(extract(candidate, CONFIG), extract(neighbor, CONFIG), CONFIG, looks)


@pytest.mark.parametrize("name", WHOLE)
def test_an_edit_of_the_whole_is_the_same(name: str) -> None:
    for number in (4, 8, 20):
        original = photo(SAMPLES[number])
        copy = EDITS[name](original, random.Random(number), photo(SAMPLES[number - 1]))
        found = _verify(copy, original)
        assert (found.duplicate, found.relation) == (True, "same")
        assert _verify(original, copy).relation == "same"


@pytest.mark.parametrize(
    ("name", "relation", "back"),
    [("crop", "crop", "contains"), ("crop40", "crop", "contains"), ("collage", "contains", "crop"),
     ("screenshot", "contains", "crop")],
)  # fmt: skip
def test_a_part_is_told_from_the_whole(name: str, relation: str, back: str) -> None:
    for number in (4, 12, 20):
        original = photo(SAMPLES[number])
        copy = EDITS[name](original, random.Random(number), photo(SAMPLES[number - 1]))
        assert _verify(copy, original).relation == relation
        assert _verify(original, copy).relation == back


def test_two_parts_of_one_picture_overlap() -> None:
    original = photo(SAMPLES[4])
    width, height = original.size
    left, right = original.crop((0, 0, width * 3 // 4, height)), original.crop((width // 4, 0, width, height))
    found = _verify(left, right)
    assert (found.duplicate, found.relation) == (True, "overlap")


def test_a_narrow_frame_is_no_part_of_the_picture() -> None:
    original = photo(SAMPLES[4])
    framed = ImageOps.expand(original, original.width // 10, "white")
    assert _verify(framed, original).relation == "same"


def test_blank_pictures_are_blank() -> None:
    found = _verify(Image.new("RGB", (300, 400), "white"), Image.new("RGB", (300, 400), "white"))
    assert (found.duplicate, found.relation) == (True, "blank")


def test_unrelated_pictures_have_no_relation() -> None:
    found = _verify(photo(SAMPLES[4]), scene(1))
    assert (found.duplicate, found.relation) == (False, "")


def test_coverage_decides() -> None:
    assert relation_of(0.95, 0.96, 1.0, flat=(0, 0)) == "same"
    assert relation_of(0.95, 0.90, 1.0, flat=(0, 0)) == "crop"
    assert relation_of(0.90, 0.95, 1.0, flat=(0, 0)) == "contains"
    assert relation_of(0.90, 0.90, 1.0, flat=(0, 0)) == "overlap"
    assert relation_of(0.80, 0.80, 0.82, flat=(0, 0)) == "same"
    assert relation_of(0.50, 0.98, 1.0, flat=(1, 0)) == "same"
    assert set(RELATIONS) >= {"same", "crop", "contains", "overlap", "blank", "template", "moved", "recoloured", ""}
