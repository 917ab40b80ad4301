"""Waves are undone, and nothing else is bent into agreement."""

import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from bench.strong_edits import waves
from imagetools.features.extract import extract, pyramid_of
from imagetools.matching import agreement, bending
from imagetools.matching.bending import Bend, find_bend, straightened
from imagetools.matching.config import MatcherConfig
from imagetools.matching.detail import SIDE
from imagetools.matching.geometry import Map
from imagetools.matching.planes import Grey
from imagetools.matching.verify import Verification, verify
from tests.support.pictures import SAMPLES, photo

CONFIG = MatcherConfig()
FLAT = np.eye(2, 3)


def grey(path: Path) -> Grey:
    return np.asarray(ImageOps.fit(photo(path).convert("L"), (256, 192)))


def waved(picture: Grey, by: float, period: float) -> Grey:
    rows, columns = np.indices(picture.shape, dtype=np.float32)
    at = np.asarray(columns + by * np.sin(rows * (2 * np.pi / period)), dtype=np.float32)
    moved = cv2.remap(picture, at, np.asarray(rows), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved, dtype=np.uint8)


def test_a_straightened_picture_agrees_and_a_bend_holds_at_any_size():
    picture = grey(SAMPLES[0])
    wave = waved(picture, 5, 70)
    bend = find_bend(picture, wave, FLAT)
    assert bend is not None
    straight = straightened(picture, (256, 192), FLAT, bend)
    before, after = (agreement.compare(FLAT, pyramid_of(one), pyramid_of(wave)).mean for one in (picture, straight))
    assert after > 0.75 > before + 0.2
    twice, wave_twice = (
        np.asarray(cv2.resize(one, (512, 384), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
        for one in (picture, wave)
    )
    larger = straightened(twice, (512, 384), FLAT, bend)
    assert agreement.compare(FLAT, pyramid_of(larger), pyramid_of(wave_twice)).mean > 0.7


def test_different_photos_are_not_bent_into_agreement():
    first, second = grey(SAMPLES[0]), grey(SAMPLES[1])
    bend = find_bend(first, second, FLAT)
    bent = first if bend is None else straightened(first, (256, 192), FLAT, bend)
    assert agreement.compare(FLAT, pyramid_of(bent), pyramid_of(second)).mean < 0.4


def test_a_picture_too_small_to_bend_is_left_alone():
    assert find_bend(grey(SAMPLES[0])[:20], grey(SAMPLES[0])[:20], FLAT) is None


def test_photos_with_waves_are_found_whichever_comes_first():
    found = []
    for number, name in enumerate(SAMPLES[:10]):
        original = photo(name)
        copy = waves(original, random.Random(number), original)
        one, two = extract(original, CONFIG), extract(copy, CONFIG)
        verdict = verify(two, one, CONFIG)
        assert verify(one, two, CONFIG).score == verdict.score
        found.append(verdict)
    assert sum(one.duplicate for one in found) >= 8
    assert any("bent" in one.edit for one in found)


def test_large_drawn_pictures_are_shrunk_before_they_are_straightened(monkeypatch):
    """OpenCV refuses a side of 32,767 pixels, and a picture of 10 megapixels takes half a gigabyte."""
    page = Image.new("RGB", (800, 1100), "white")
    rng = random.Random(1)
    for top in range(45, 1055, 45):
        left = 45
        while left < 530:
            word = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9)))
            ImageDraw.Draw(page).text((left, top), word, "black", font_size=24)
            left += 14 * len(word) + 24
    waves_of_page = Image.merge("RGB", [Image.fromarray(waved(np.asarray(page.convert("L")), 25, 600))] * 3)
    one, two = extract(page, CONFIG), extract(waves_of_page, CONFIG)
    straighten, sizes = bending.straightened, []

    def recorded(source: Grey, size: tuple[int, int], found: Map, bend: Bend | None) -> Grey:
        if bend is not None:
            sizes.append(max(*source.shape, *size))
        return straighten(source, size, found, bend)

    monkeypatch.setattr(bending, "straightened", recorded)

    def seen(size: tuple[int, int]) -> Verification:
        large = [image.resize(size) for image in (page, waves_of_page)]
        sizes.clear()
        return verify(one, two, CONFIG, (lambda _box: large[0], lambda _box: large[1]))

    as_large_as_kept = seen((1091, 1500))
    assert seen((1600, 2200)).score == pytest.approx(as_large_as_kept.score, abs=0.01)
    assert max(sizes) == SIDE
    seen((40, 33_000))
    assert max(sizes) == SIDE
