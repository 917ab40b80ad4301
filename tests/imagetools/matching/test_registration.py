import numpy as np
import pytest
from PIL import Image, ImageFilter

from imagetools.matching.registration import register
from tests.support.pictures import photos


@pytest.mark.parametrize("picture", photos(3), ids=range(3))
@pytest.mark.parametrize("percent", [0.5, 1, 2])
def test_a_blurred_copy_stays_in_its_place(picture: Image.Image, percent: float) -> None:
    sharp = picture.convert("L")
    blurred = sharp.filter(ImageFilter.GaussianBlur(percent / 100 * max(sharp.size)))
    found = register(np.asarray(sharp), np.asarray(blurred), np.eye(2, 3), 1500)
    width, height = sharp.size
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]).T
    assert np.abs(found.affine @ corners - corners[:2]).max() < 0.015 * max(sharp.size)
