from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from imagetools.features.extract import extract
from imagetools.matching import agreement, geometry
from imagetools.matching.config import MatcherConfig
from tests.support.pictures import photos
from tests.support.streaming import scene

SAME = np.eye(2, 3)
CONFIG = MatcherConfig()


def _pyramid(image: Image.Image) -> tuple[Any, ...]:
    return extract(image, CONFIG).pyramid


@pytest.mark.parametrize("picture", [*photos(3), scene(1)], ids=range(4))
def test_a_picture_agrees_with_itself_everywhere(picture: Image.Image) -> None:
    own = _pyramid(picture)
    found = agreement.compare(SAME, own, own)
    assert (found.share, found.strict, found.hole) == (1, 1, 0)
    assert found.mean > 0.9
    assert found.correlation == pytest.approx(1)


def test_brightness_and_contrast_do_not_count() -> None:
    own = _pyramid(scene(1))
    dim = tuple(np.asarray(level * 0.5 + 40, dtype=np.uint8) for level in own)
    assert agreement.compare(SAME, own, dim).strict > 0.9


def test_different_scenes_agree_by_chance_alone() -> None:
    shares = [agreement.compare(SAME, _pyramid(scene(i)), _pyramid(scene(i + 1))).share for i in range(0, 20, 2)]
    assert max(shares) < 0.25


@pytest.mark.parametrize("covered", [0.04, 0.16, 0.36])
def test_a_patch_is_a_hole_of_its_own_size(covered: float) -> None:
    picture, other = scene(1, (240, 240)), scene(2, (240, 240))
    side = round(240 * covered**0.5)
    patched = picture.copy()
    patched.paste(other.crop((0, 0, side, side)), (60, 70))
    found = agreement.compare(SAME, _pyramid(picture), _pyramid(patched))
    # some of what lies under a patch agrees by chance, and windows at its rim see both
    assert 0.6 * covered < found.hole < 1.3 * covered
    assert found.share < 1 - 0.6 * covered


def test_a_line_across_the_picture_is_no_large_hole() -> None:
    picture = scene(1, (240, 240))
    drawn = picture.copy()
    ImageDraw.Draw(drawn).line((0, 30, 240, 200), fill="white", width=2)
    assert agreement.compare(SAME, _pyramid(picture), _pyramid(drawn)).hole < 0.1


@pytest.mark.parametrize("scale", [0.4, 0.7, 1.0, 1.6])
def test_a_warped_picture_agrees_by_its_map_and_not_beside_it(scale: float) -> None:
    own = _pyramid(scene(1))
    height, width = own[0].shape
    affine = np.array([[scale * 0.96, -scale * 0.28, 30.0], [scale * 0.28, scale * 0.96, 5]])
    blurred = cv2.GaussianBlur(own[0], (0, 0), max(0.01, 0.5 / scale - 0.5))
    warped = cv2.warpAffine(blurred, affine, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
    there = _pyramid(Image.fromarray(warped).convert("RGB"))
    found = agreement.compare(affine, own, there)
    assert found.share > 0.95
    back = agreement.compare(geometry.inverse(affine), there, own)
    assert back.share == pytest.approx(found.share, abs=0.03)
    shifted = affine + np.array([[0, 0, 14], [0, 0, 9]])
    assert agreement.compare(shifted, own, there).share < 0.5


def _in_app(photo: Image.Image) -> Image.Image:
    app = Image.new("RGB", (240, 320), "white")
    draw = ImageDraw.Draw(app)
    for row in range(8):
        draw.text((12, 8 + 12 * row), "one text over every photo", fill="black")
        draw.text((12, 228 + 11 * row), "and another text below it", fill="black")
    app.paste(photo.resize((200, 110)), (20, 112))
    return app


def test_what_two_photos_in_one_app_share_is_a_frame_and_what_lies_on_a_copy_has_none() -> None:
    apps = [agreement.compare(SAME, _pyramid(_in_app(one)), _pyramid(_in_app(scene(9)))) for one in map(scene, (1, 2))]
    picture = scene(1, (240, 320))
    patched = picture.copy()
    patched.paste(scene(2, (130, 90)), (60, 110))
    patch = agreement.compare(SAME, _pyramid(picture), _pyramid(patched))
    assert min(*(app.hole for app in apps), patch.hole) > 0.08
    assert min(app.framed for app in apps) > patch.framed + 0.3


def test_stripes_everywhere_are_no_frame() -> None:
    stripes = Image.fromarray(np.tile(np.arange(160) // 4 % 2 * 200, (160, 1)).astype(np.uint8)).convert("RGB")
    patched = stripes.copy()
    patched.paste(scene(2, (60, 60)), (50, 50))
    found = agreement.compare(SAME, _pyramid(stripes), _pyramid(patched))
    assert found.hole > 0.08
    assert found.framed < 0.35


@pytest.mark.parametrize("off", [(3.0, -2.0), (-2.0, 4.0)])
def test_a_map_that_is_some_pixels_off_is_refined(off: tuple[float, float]) -> None:
    own = _pyramid(scene(1))
    height, width = own[0].shape
    true = np.array([[0.96, -0.08, 9.0], [0.08, 0.96, 1.0]])
    there = _pyramid(
        Image.fromarray(cv2.warpAffine(own[0], true, (width, height), borderMode=cv2.BORDER_REFLECT)).convert("RGB")
    )
    rough = true + np.array([[0.01, 0, off[0]], [0, -0.01, off[1]]])
    corners = np.array([0, width, 1j * height, width + 1j * height], dtype=np.complex64)
    refined = agreement.refine(rough, own, there)
    assert np.abs(geometry.apply(refined, corners) - geometry.apply(true, corners)).max() < 1
    assert np.abs(geometry.apply(rough, corners) - geometry.apply(true, corners)).max() > 3


def test_a_map_is_left_as_it_is_where_refining_leads_away() -> None:
    own, flat = _pyramid(scene(1)), _pyramid(Image.new("RGB", (160, 120), "#808080"))
    for one, two in ((own, flat), (flat, own), (own, _pyramid(scene(5)))):
        refined = agreement.refine(SAME, one, two)
        corners = np.array([0, 160, 120j, 160 + 120j], dtype=np.complex64)
        assert np.abs(geometry.apply(refined, corners) - corners).max() <= 17
    assert agreement.refine(SAME, own, flat) is SAME


def test_no_overlap_says_nothing() -> None:
    own = _pyramid(scene(1))
    assert agreement.compare(np.array([[1.0, 0, 900], [0, 1, 0]]), own, own) == agreement.NO_AGREEMENT


def test_one_shade_has_no_texture_and_no_correlation() -> None:
    flat = _pyramid(Image.new("RGB", (100, 80), "#808080"))
    found = agreement.compare(SAME, flat, flat)
    assert (found.textured, found.hole, found.correlation) == (0, 0, 0)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 1), (1, 60), (60, 1), (3, 5), (50, 40)]))
@settings(max_examples=60, deadline=None)
def test_every_map_gives_shares(seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    one, two = _pyramid(noise), _pyramid(scene(1, (48, 64)))
    affine = np.column_stack([rng.normal(size=(2, 2)), rng.uniform(-40, 40, 2)])
    found = agreement.compare(affine, one, two)
    for name in ("share", "strict", "hole", "framed", "textured"):
        assert 0 <= getattr(found, name) <= 1, name
    assert -1 <= found.correlation <= 1 + 1e-6
    assert np.isfinite(agreement.refine(affine, one, two)).all()


@pytest.mark.parametrize("percent", [0.5, 1, 1.5])
@pytest.mark.parametrize("picture", photos(3), ids=range(3))
def test_a_blurred_copy_agrees_exactly_in_what_the_blur_has_left(picture: Image.Image, percent: float) -> None:
    blurred = picture.filter(ImageFilter.GaussianBlur(percent / 100 * max(picture.size)))
    found = agreement.compare(SAME, _pyramid(picture), _pyramid(blurred))
    assert found.strict > 0.95
    assert found.hole == 0


def test_different_scenes_disagree_however_blurred() -> None:
    blurred = [scene(i + 1).filter(ImageFilter.GaussianBlur(4)) for i in range(0, 20, 2)]
    shares = [agreement.compare(SAME, _pyramid(scene(2 * i)), _pyramid(blurred[i])).share for i in range(10)]
    assert max(shares) < 0.35
