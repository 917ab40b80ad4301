"""Views: seeded, in range, and showing what they say they show."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from imagetools.edits import EDITS
from tests.support.streaming import scene
from training.augment.color import compressed
from training.augment.config import AugmentConfig
from training.augment.dice import Dice
from training.augment.layouts import ALONE, COLLAGE, PADDED, PASTED, SCREENSHOT
from training.augment.views import draw_views, pillow_copies, resize_photos

NOTHING = AugmentConfig(
    layouts=(1, 0, 0, 0, 0), plain=0, cropped=0, mirrored=0, flipped=0, quarter=0, turned=0, patched=0, captioned=0,
    coloured=0, greyed=0, blurred=0, packed=0,
)  # fmt: skip
SIZE = 48


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """So little is computed that threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def only(layout: int) -> AugmentConfig:
    shares: Any = tuple(float(kind == layout) for kind in range(5))
    return replace(NOTHING, layouts=shares)


def scenes(count: int, side: int = 64) -> torch.Tensor:
    pixels = np.stack([np.asarray(scene(seed, (side, side))) for seed in range(count)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def flat(count: int, side: int = 64) -> torch.Tensor:
    """Photos of one colour each, none of them black, white or grey."""
    hues = torch.linspace(40, 200, count)
    colours = torch.stack((hues, 240 - hues, torch.full((count,), 120.0)), dim=1).byte()
    return colours.view(count, 3, 1, 1).expand(count, 3, side, side)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [32, 45])
@pytest.mark.parametrize("count", [2, 3, 9])
def test_views_have_their_shape_and_range(size: int, count: int) -> None:
    for seed in range(3):
        views = draw_views(scenes(count), torch.linspace(0.5, 2, count), size, seeded(seed))
        assert views.pixels.shape == (count, 3, size, size)
        assert torch.isfinite(views.pixels).all()
        assert views.pixels.min() >= 0
        assert views.pixels.max() <= 1
        assert views.shows.shape == views.touches.shape == (count, count)
        assert views.shows.diagonal().all()
        assert not (views.shows & views.touches).any()


def test_the_same_seed_gives_the_same_views_and_another_one_others() -> None:
    photos, aspects = scenes(8), torch.ones(8)
    first, again, other = (draw_views(photos, aspects, SIZE, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.shows, again.shows)
    assert (first.pixels - other.pixels).abs().mean() > 0.02


def test_photos_are_left_as_they_are() -> None:
    photos = scenes(4)
    before = photos.clone()
    draw_views(photos, torch.ones(4), SIZE, seeded(0))
    assert torch.equal(photos, before)


def test_without_edits_a_view_is_the_photo() -> None:
    photos = scenes(4, SIZE)
    views = draw_views(photos, torch.tensor([0.5, 1, 1.5, 2]), SIZE, seeded(0), NOTHING)
    torch.testing.assert_close(views.pixels, photos.float() / 255, atol=2e-4, rtol=0)
    torch.testing.assert_close(resize_photos(photos, SIZE), photos.float() / 255)


@pytest.mark.parametrize(("share", "axis"), [("mirrored", 3), ("flipped", 2)])
def test_flips_are_flips(share: str, axis: int) -> None:
    photos = scenes(4, SIZE)
    always: dict[str, Any] = {share: 1.0}
    views = draw_views(photos, torch.ones(4), SIZE, seeded(0), replace(NOTHING, **always))
    torch.testing.assert_close(views.pixels, (photos.float() / 255).flip(axis), atol=2e-4, rtol=0)


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    photos = scenes(4, SIZE)
    views = draw_views(photos, torch.full((4,), 1.5), SIZE, seeded(0), replace(NOTHING, quarter=1.0))
    views_mirrored = draw_views(
        photos, torch.full((4,), 1.5), SIZE, seeded(0), replace(NOTHING, quarter=1.0, mirrored=1.0)
    )
    turned = [torch.rot90(photos.float() / 255, k, (2, 3)) for k in (1, 3)]
    swapped = (photos.float() / 255).transpose(2, 3)
    assert min((views.pixels - t).abs().max() for t in (*turned, swapped)) < 1e-3
    assert min((views_mirrored.pixels - t).abs().max() for t in turned) < 1e-3


@pytest.mark.parametrize("layout", [ALONE, PADDED, COLLAGE, PASTED, SCREENSHOT])
def test_a_view_shows_the_photos_that_it_says(layout: int) -> None:
    photos = flat(6)
    known = photos[:, :, 0, 0].float() / 255
    for seed in range(4):
        # grey looks and flat grounds have no photo's colour
        views = draw_views(photos, torch.ones(6), 64, seeded(seed), only(layout))
        pixels = views.pixels.permute(0, 2, 3, 1).reshape(6, -1, 3)
        near = (pixels[:, :, None] - known).abs().amax(3) < 4e-3
        there = near.float().mean(1) > 0.01
        assert there.diagonal().all()
        assert not (there & ~views.shows & ~views.touches).any()
        if layout == COLLAGE:
            assert views.shows.sum(1).min() >= 2
            area = near.float().mean(1).diagonal()
            assert ((area > 0.2) & (area < 0.52)).all()
        elif layout != PASTED:
            assert torch.equal(views.shows | views.touches, torch.eye(6, dtype=torch.bool))


def test_a_patch_is_another_photo_and_is_marked() -> None:
    photos = flat(6)
    views = draw_views(photos, torch.ones(6), 64, seeded(3), replace(NOTHING, patched=1.0))
    assert views.touches.any()
    assert views.shows.sum() == 6
    own = (photos[:, :, :1, :1].float() / 255 - views.pixels).abs().amax(1) < 4e-3
    covered = 1 - own.float().mean((1, 2))
    assert ((covered > 0.03) & (covered < 0.3)).all()


def test_grey_views_are_grey() -> None:
    views = draw_views(scenes(4), torch.ones(4), SIZE, seeded(0), replace(NOTHING, greyed=1.0))
    assert (views.pixels.amax(1) - views.pixels.amin(1)).max() < 0.02


def test_a_blur_keeps_the_mean_and_takes_the_detail() -> None:
    photos = torch.randint(0, 256, (4, 3, 128, 128), generator=seeded(5)).byte()
    before = photos.float() / 255
    after = draw_views(photos, torch.ones(4), 128, seeded(0), replace(NOTHING, blurred=1.0)).pixels
    assert (before.mean((1, 2, 3)) - after.mean((1, 2, 3))).abs().max() < 0.01
    detail = [pixels.diff(dim=3).abs().mean() for pixels in (before, after)]
    assert detail[1] < 0.9 * detail[0]


def test_packing_keeps_flat_blocks_and_changes_detail() -> None:
    dice = Dice(2, seeded(0))
    grey = torch.full((2, 3, 20, 20), 128 / 255)
    everything = torch.ones(2, dtype=torch.bool)
    torch.testing.assert_close(compressed(grey, everything, dice), grey, atol=1e-4, rtol=0)
    noise = torch.rand(2, 3, 20, 20, generator=seeded(1))
    packed = compressed(noise, everything, dice)
    assert 0.005 < (packed - noise).abs().mean() < 0.25
    assert torch.equal(compressed(noise, ~everything, dice), noise)


def test_pillow_makes_copies_by_the_edits_that_are_named() -> None:
    photos, aspects = scenes(6), torch.linspace(0.5, 2, 6)
    mirrored = pillow_copies(photos, aspects, ["flip_horizontal"], random.Random(0))
    # it went to its own shape and back
    assert (mirrored.float() - photos.flip(3).float()).abs().mean() < 8
    first, again, other = (pillow_copies(photos, aspects, tuple(EDITS), random.Random(seed)) for seed in (1, 1, 2))
    assert first.shape == photos.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
