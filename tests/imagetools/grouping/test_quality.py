import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from imagetools.grouping.quality import quantization_step, sharpness
from tests.support.streaming import scene


@pytest.mark.parametrize(("quality", "step"), [(100, 1.0), (95, 5.8), (80, 23.1), (50, 57.6)])
def test_the_step_grows_as_the_quality_falls(quality, step):
    data = io.BytesIO()
    scene(1).save(data, "JPEG", quality=quality)
    assert quantization_step(Image.open(data)) == pytest.approx(step, abs=0.1)


def test_a_format_without_loss_has_a_step_of_one_and_others_have_none():
    for format_name, step in (("PNG", 1.0), ("WEBP", None)):
        data = io.BytesIO()
        scene(1).save(data, format_name)
        assert quantization_step(Image.open(data)) == step


def test_blur_and_enlarging_cost_sharpness():
    photo = scene(3, (640, 480))
    sharp, fine = sharpness(photo)
    assert sharpness(photo.filter(ImageFilter.GaussianBlur(6)))[0] < 0.5 * sharp
    assert sharpness(photo.resize((80, 60)).resize((640, 480)))[1] < 0.7 * fine
    assert sharpness(photo.resize((1280, 960), Image.Resampling.BICUBIC))[0] == pytest.approx(sharp, rel=0.05)


def test_a_plain_picture_has_no_edges():
    assert sharpness(Image.new("RGB", (300, 200), "red")) == (0.0, 0.0)
    assert sharpness(Image.fromarray(np.zeros((1, 900, 3), np.uint8))) == (0.0, 0.0)
