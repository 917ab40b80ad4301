import random

import pytest
from PIL import Image, ImageChops

from imagetools.edits import EDITS, HEAVY, IMAGEDEDUP
from imagetools.overlays import OVERLAYS


def _photo(width: int, height: int, seed: int = 1) -> Image.Image:
    rng = random.Random(seed)
    small = Image.frombytes("RGB", (24, 16), rng.randbytes(24 * 16 * 3))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def test_the_twelve_and_the_five_are_all_named() -> None:
    assert (len(HEAVY), len(IMAGEDEDUP), len(EDITS)) == (12, 5, 17)


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (300, 200), (90, 401)])
def test_an_edit_is_seeded_and_leaves_its_image_alone(name: str, size: tuple[int, int]) -> None:
    image, other = _photo(*size), _photo(64, 48, seed=2)
    before = image.tobytes()
    for second in (None, other):
        first = EDITS[name](image, random.Random(7), second)
        again = EDITS[name](image, random.Random(7), second)
        assert first.mode == "RGB"
        assert first.size == again.size
        assert first.tobytes() == again.tobytes()
    assert image.tobytes() == before


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_changes_a_photo(name: str) -> None:
    image = _photo(300, 200)
    edited = EDITS[name](image, random.Random(7))
    assert edited.size != image.size or edited.tobytes() != image.tobytes()


def test_crop40_keeps_two_fifths_and_patch_covers_a_sixth() -> None:
    image = _photo(400, 300)
    for seed in range(20):
        cropped = EDITS["crop40"](image, random.Random(seed))
        assert cropped.width * cropped.height == pytest.approx(0.4 * 400 * 300, rel=0.02)
        white = Image.new("RGB", (400, 300), "white")
        patched = EDITS["patch"](white, random.Random(seed), Image.new("RGB", (50, 50), "black"))
        assert patched.convert("L").histogram()[0] == pytest.approx(0.16 * 400 * 300, rel=0.02)


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("size", [(1, 1), (300, 200), (90, 401)])
def test_an_overlay_looks_the_same_on_two_photos(name: str, size: tuple[int, int]) -> None:
    black, grey = (Image.new("RGB", size, shade) for shade in ("black", "#404040"))
    first, second = (OVERLAYS[name](image, random.Random(3)) for image in (black, grey))
    assert first.size == second.size
    if name != "watermark" and min(size) > 1:
        unequal = ImageChops.difference(first, second).convert("L").point(lambda level: 255 * (level > 0))
        assert unequal.histogram()[0] > 0.005 * first.width * first.height
