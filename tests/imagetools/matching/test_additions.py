"""Which of two copies something was added to."""

import random

import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from imagetools.edits import EDITS
from imagetools.features.extract import extract
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import verify
from imagetools.overlays import OVERLAYS
from tests.support.pictures import SAMPLES, photo

CONFIG = MatcherConfig()
PHOTOS = [4, 8, 12]


def said(copy: Image.Image, original: Image.Image) -> tuple[str, str]:
    """Return what is said of the copy, and of the original as its copy."""
    one, two = extract(copy, CONFIG), extract(original, CONFIG)
    return verify(one, two, CONFIG).edit, verify(two, one, CONFIG).edit


def written_on(image: Image.Image, rng: random.Random) -> Image.Image:
    copy, font = image.copy(), ImageFont.load_default(image.height / 10)
    ImageDraw.Draw(copy).text((10, 10), "SALE 50 %", fill="red", font=font)
    return copy


@pytest.mark.parametrize("number", PHOTOS)
@pytest.mark.parametrize("name", ["logo", "meme", "text"])
def test_text_and_logos_are_found_on_the_side_where_they_are(number, name):
    original = photo(SAMPLES[number])
    copy = {**OVERLAYS, "text": written_on}[name](original, random.Random(number))
    forth, back = said(copy, original)
    assert "something added" in forth
    assert "something removed" in back


@pytest.mark.parametrize("name", ["jpeg15", "quarter_size", "colour", "grey", "blur", "square", "flip_horizontal"])
def test_other_edits_add_nothing(name):
    for number in PHOTOS:
        original = photo(SAMPLES[number])
        copy = EDITS[name](original, random.Random(number))
        assert not any("something" in words for words in said(copy, original))


def test_sharpening_adds_nothing():
    for number in PHOTOS:
        original = photo(SAMPLES[number])
        copy = original.filter(ImageFilter.UnsharpMask(2, 300))
        assert not any("something" in words for words in said(copy, original))
