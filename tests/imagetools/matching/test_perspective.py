"""Perspective: a map is recovered from its matches, refined on the pictures, and refused where no camera made it."""

import random

import cv2
import numpy as np
import pytest
from PIL import Image

from bench.strong_edits import STRONG, page_with
from imagetools.features.extract import extract, pyramid_of
from imagetools.matching import geometry, perspective
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import ImageOpener, Verification, verify
from tests.support.pictures import SAMPLES, photo, photos

CONFIG = MatcherConfig()
SIZE = (160, 120)


def slanted(by: float) -> np.ndarray:
    """A map that moves the upper corners inwards by a share of the width."""
    w, h = SIZE
    source = np.array([(0, 0), (w, 0), (w, h), (0, h)], np.float32)
    target = np.array([(by * w, 0), (w - by * w, 0), (w, h), (0, h)], np.float32)
    return np.asarray(cv2.getPerspectiveTransform(source, target), np.float64)


def scattered(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.uniform(0, SIZE[0], count) + 1j * rng.uniform(0, SIZE[1], count)).astype(np.complex64)


@pytest.mark.parametrize("by", [0.03, 0.1, 0.2])
def test_a_slant_is_found_among_as_many_wrong_matches(by):
    at = scattered(80, 1)
    to = geometry.apply(slanted(by), at).astype(np.complex64)
    to[40:] = scattered(40, 2)
    found = perspective.find_homography(at, to, SIZE)
    assert found is not None
    homography, rows = found
    assert set(range(40)) <= set(rows.tolist())
    frame = np.array([0, 160, 160 + 120j, 120j], np.complex64)
    assert np.abs(geometry.apply(homography, frame) - geometry.apply(slanted(by), frame)).max() < 1


def test_equal_matches_give_equal_maps():
    at = scattered(60, 3)
    to = (geometry.apply(slanted(0.1), at) + scattered(60, 4) / 200).astype(np.complex64)
    first, second = (perspective.find_homography(at, to, SIZE) for _ in range(2))
    assert first is not None
    assert second is not None
    assert np.array_equal(first[0], second[0])


def test_matches_without_a_common_map_give_none():
    assert perspective.find_homography(scattered(40, 5), scattered(40, 6), SIZE) is None
    assert perspective.find_homography(scattered(7, 5), scattered(7, 5), SIZE) is None


def test_a_map_that_folds_or_flings_the_picture_is_refused():
    assert perspective.is_plausible(slanted(0.1), SIZE)
    assert not perspective.is_plausible(slanted(0.45), SIZE)
    folded = np.array([[1, 0, 0], [0, 1, 0], [-1 / 80, 0, 1.0]])
    assert not perspective.is_plausible(folded, SIZE)
    assert not perspective.is_plausible(np.full((3, 3), np.nan), SIZE)


def test_a_mirrored_slant_is_plausible():
    mirrored = geometry.compose(slanted(0.1), geometry.mirror_map(SIZE[0]))
    assert perspective.is_plausible(mirrored, SIZE)


def test_maps_in_perspective_compose_and_invert_as_affine_ones_do():
    at = scattered(20, 7)
    turn = np.array([[0.9, -0.3, 5.0], [0.3, 0.9, -2.0]])
    both = geometry.compose(slanted(0.1), turn)
    turned, to = (geometry.apply(one, at).astype(np.complex64) for one in (turn, both))
    assert np.allclose(to, geometry.apply(slanted(0.1), turned), atol=1e-3)
    assert np.allclose(geometry.apply(geometry.inverse(both), to), at, atol=1e-3)


def test_the_nearest_affine_map_of_an_affine_one_is_itself():
    turn = np.array([[0.9, -0.3, 5.0], [0.3, 0.9, -2.0]])
    assert np.allclose(geometry.affine_at_middle(np.vstack([turn, [0, 0, 1]]), SIZE), turn, atol=1e-3)


def test_refining_brings_a_map_that_is_off_nearer():
    image = extract(photo(SAMPLES[3]), CONFIG)
    grey = image.pyramid[0]
    true = slanted(0.08)
    moved = cv2.warpPerspective(grey, true, (grey.shape[1], grey.shape[0]), borderMode=cv2.BORDER_REPLICATE)
    off = geometry.compose(np.array([[1.01, 0, 1.5], [0, 0.99, -1.0]]), true)
    refined = perspective.refine(off, image.pyramid, pyramid_of(np.asarray(moved, np.uint8)))
    at = np.array([40 + 30j, 110 + 30j, 110 + 90j, 40 + 90j], np.complex64)
    before, after = (np.abs(geometry.apply(one, at) - geometry.apply(true, at)).max() for one in (off, refined))
    assert after < 0.5 < before


def opening(image: Image.Image) -> ImageOpener:
    return lambda _box: image


def verdict(one: Image.Image, two: Image.Image) -> Verification:
    return verify(extract(one, CONFIG), extract(two, CONFIG), CONFIG, (opening(one), opening(two)))


@pytest.mark.parametrize("name", ["perspective", "photographed", "web_page", "pasted", "stripe", "blended", "negative"])
def test_strong_edits_are_recognised(name):
    images = photos(10)
    found = [
        verdict(STRONG[name](image, random.Random(i), images[i - 1]), image).duplicate for i, image in enumerate(images)
    ]
    assert sum(found) >= 9, found


def test_a_strip_is_looked_at_as_wide_as_it_needs():
    images = photos(6)
    found = [
        verdict(STRONG["strip"](image, random.Random(i), image), image).duplicate for i, image in enumerate(images)
    ]
    assert sum(found) >= 5, found


def test_a_negative_is_called_so():
    found = verdict(STRONG["negative"](photo(SAMPLES[1]), random.Random(1), photo(SAMPLES[2])), photo(SAMPLES[1]))
    assert found.duplicate
    assert "inverted" in found.edit


def test_pages_of_one_site_with_different_photos_are_no_duplicates():
    images = photos(8)
    pages = [page_with(image, site=3) for image in images]
    seen = [extract(page, CONFIG) for page in pages]
    wrong = [
        (i, k)
        for i in range(8)
        for k in range(i)
        if verify(seen[i], seen[k], CONFIG, (opening(pages[i]), opening(pages[k]))).duplicate
    ]
    assert not wrong
