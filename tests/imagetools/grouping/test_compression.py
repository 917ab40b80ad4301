import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from imagetools.decode import decode_luminance
from imagetools.formats import open_image
from imagetools.grouping.compression import earlier_step
from imagetools.grouping.quality import measure, thumbnail
from tests.support.pictures import SAMPLES, photo

PHOTOS = [8, 12, 16]
STEPS = {75: 28.8, 85: 17.3, 92: 9.2}


def saved(image: Image.Image, format_name: str = "JPEG", quality: int = 95) -> bytes:
    packed = io.BytesIO()
    image.save(packed, format_name, quality=quality)
    return packed.getvalue()


def fresh(number: int) -> Image.Image:
    """A photo in which no earlier compression shows."""
    image = photo(SAMPLES[number])
    return image.resize((round(0.8 * image.width), round(0.8 * image.height)), Image.Resampling.LANCZOS)


def earlier(data: bytes) -> float | None:
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return measure(data, "a", picture, thumbnail(picture), open_image(data, "a")).earlier


@pytest.mark.parametrize("number", PHOTOS)
@pytest.mark.parametrize("quality", STEPS)
def test_a_jpeg_saved_again_shows_what_it_was(number, quality):
    once = saved(fresh(number), quality=quality)
    assert earlier(once) is None
    picture = Image.open(io.BytesIO(once)).convert("RGB")
    for again in (saved(picture, "PNG"), saved(picture, quality=97)):
        assert earlier(again) == pytest.approx(STEPS[quality], rel=0.3)


def test_one_that_was_mirrored_or_turned_in_between_shows_it_as_well():
    picture = Image.open(io.BytesIO(saved(fresh(8), quality=75))).convert("RGB")
    assert picture.height % 8, "the blocks are cut off at the other end"
    for changed in (ImageOps.flip(picture), ImageOps.mirror(picture), picture.transpose(Image.Transpose.ROTATE_90)):
        assert earlier(saved(changed)) == pytest.approx(STEPS[75], rel=0.3)


def test_one_that_was_resized_or_cropped_in_between_shows_nothing():
    picture = Image.open(io.BytesIO(saved(fresh(8), quality=75))).convert("RGB")
    assert earlier(saved(picture.resize((300, 200), Image.Resampling.LANCZOS))) is None
    assert earlier(saved(picture.crop((3, 5, picture.width - 2, picture.height - 1)))) is None


@pytest.mark.parametrize("size", [(1, 1), (8, 900), (31, 31), (40, 40)])
def test_a_small_or_plain_picture_shows_nothing(size):
    assert earlier_step(np.full(size[::-1], 90, np.uint8), None) is None


def test_the_luminance_of_a_large_picture_is_not_decoded():
    data = saved(fresh(8))
    assert decode_luminance(data, "a", max_pixels=100) is None
    assert decode_luminance(data, "a", max_pixels=10**6) is not None
