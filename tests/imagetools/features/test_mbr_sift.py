import itertools
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from imagetools.features import mbr_sift
from tests.support.pictures import MORE, photo, photos
from tests.support.streaming import scene

PICTURES = [*photos(6), *(photo(path) for path in MORE), scene(1)]


def _descriptors(seed: int, count: int) -> mbr_sift.Descriptors:
    """Small whole numbers as OpenCV's are, so that neighboring cells are often equal."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, rng.choice([3, 20, 200]), (count, 128)).astype(np.float32)


def _detected(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """x, y, size and angle of the keypoints, (n, 4), and their descriptors."""
    grey = np.asarray(image.convert("L").resize((256, 256)))
    points, descriptors = cv2.SIFT.create(nfeatures=400).detectAndCompute(grey, None)
    return np.array([(*p.pt, p.size, p.angle) for p in points]), np.asarray(descriptors, np.float32)


def _code(descriptor: np.ndarray) -> tuple[list[int], list[int]]:
    """The bits of one descriptor by the letter of the paper: orientation by orientation, along the serpentine."""
    d = descriptor.reshape(4, 4, 8)
    cells = [(row, col) for row in range(4) for col in (range(4) if row % 2 == 0 else reversed(range(4)))]
    much = np.float32(2.3) * descriptor.std()
    coarse, fine = [], []
    for orientation in range(8):
        along = [d[row, col, orientation] for row, col in cells]
        for k in range(16):
            growth = along[(k + 1) % 16] - along[k]
            coarse.append(int(growth >= 0))
            if growth >= 0:
                fine += [1, int(growth >= much)]
            else:
                fine += [0, int(growth > -much)]
    return coarse, fine


def _bits(code: np.ndarray) -> list[int]:
    return [byte >> (7 - bit) & 1 for byte in code.tolist() for bit in range(8)]


@pytest.mark.parametrize("picture", PICTURES, ids=range(len(PICTURES)))
@pytest.mark.parametrize("turn", [ImageOps.mirror, ImageOps.flip])
def test_the_codes_of_a_mirrored_image_are_the_mirrored_codes_of_the_image(picture, turn) -> None:
    ours, descriptors = _detected(picture)
    theirs, mirrored = _detected(turn(picture))
    if turn is ImageOps.mirror:
        expected = np.stack([255 - ours[:, 0], ours[:, 1]], axis=1)
        angles = (180 - ours[:, 3]) % 360
    else:
        expected = np.stack([ours[:, 0], 255 - ours[:, 1]], axis=1)
        angles = -ours[:, 3] % 360
    # one keypoint has several directions, so that place, size and direction together say which is which
    apart = np.linalg.norm(expected[:, np.newaxis] - theirs[:, :2], axis=2)
    apart += np.abs(ours[:, np.newaxis, 2] - theirs[:, 2])
    apart += np.abs((angles[:, np.newaxis] - theirs[:, 3] + 180) % 360 - 180) / 4
    there = apart.argmin(axis=1)
    same = np.flatnonzero(apart[np.arange(len(ours)), there] < 1)
    assert len(same) > 0.6 * len(ours)
    assert len(same) > 30

    codes = mbr_sift.encode(mirrored[there[same]])
    twins = mbr_sift.encode(mbr_sift.mirror_twin(descriptors[same]))
    plain = mbr_sift.encode(descriptors[same])
    distance = np.diagonal(mbr_sift.coarse_distances(twins.coarse, codes.coarse))
    untouched = np.diagonal(mbr_sift.coarse_distances(plain.coarse, codes.coarse))
    assert np.median(distance) <= 2
    assert np.percentile(distance, 95) <= 20
    assert np.median(untouched) > 30
    assert np.median(mbr_sift.fine_equal_groups(twins.fine, codes.fine)) >= 61


@given(st.integers(0, 2**32 - 1))
def test_the_mirror_twin_flips_rows_and_reverses_orientations(seed: int) -> None:
    descriptors = _descriptors(seed, 3)
    twins = mbr_sift.mirror_twin(descriptors)
    for descriptor, twin in zip(descriptors.reshape(-1, 4, 4, 8), twins.reshape(-1, 4, 4, 8), strict=True):
        for row, col, orientation in itertools.product(range(4), range(4), range(8)):
            assert twin[row, col, orientation] == descriptor[3 - row, col, (8 - orientation) % 8]
    np.testing.assert_array_equal(mbr_sift.mirror_twin(twins), descriptors)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_codes_equal_the_papers_loop(seed: int) -> None:
    descriptors = _descriptors(seed, 4)
    codes = mbr_sift.encode(descriptors)
    assert (codes.coarse.shape, codes.fine.shape) == ((4, mbr_sift.COARSE_BYTES), (4, mbr_sift.FINE_BYTES))
    for descriptor, coarse, fine in zip(descriptors, codes.coarse, codes.fine, strict=True):
        assert (_bits(coarse), _bits(fine)) == _code(descriptor)


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(0, 6))
@settings(max_examples=40)
def test_bulk_distances_equal_a_plain_loop(seed: int, n: int, m: int) -> None:
    left, right = mbr_sift.encode(_descriptors(seed, n)), mbr_sift.encode(_descriptors(seed + 1, m))
    coarse = mbr_sift.coarse_distances(left.coarse, right.coarse)
    groups = mbr_sift.fine_equal_groups(left.fine[:, np.newaxis], right.fine)
    fine = mbr_sift.fine_distances(left.fine[:, np.newaxis], right.fine)
    assert coarse.shape == groups.shape == fine.shape == (n, m)
    for i, j in itertools.product(range(n), range(m)):
        unequal = sum(a != b for a, b in zip(_bits(left.coarse[i]), _bits(right.coarse[j]), strict=True))
        ours, theirs = _bits(left.fine[i]), _bits(right.fine[j])
        equal = sum(ours[k : k + 4] == theirs[k : k + 4] for k in range(0, 256, 4))
        assert coarse[i, j] == unequal
        assert groups[i, j] == equal
        assert fine[i, j] == pytest.approx(math.acos(equal / 64), abs=1e-6)


def test_opencv_and_the_bulk_distances_agree_on_real_codes() -> None:
    one, two = (mbr_sift.encode(_detected(picture)[1]).coarse for picture in PICTURES[:2])
    found = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(one, two, k=5)
    ours = np.sort(mbr_sift.coarse_distances(one, two), axis=1)[:, :5]
    np.testing.assert_array_equal(ours, [[m.distance for m in row] for row in found])


@pytest.mark.parametrize("pair", [(0, 0), (0, 1), (2, 3)])
def test_two_step_matching_equals_a_plain_loop(pair: tuple[int, int]) -> None:
    descriptors = [_detected(PICTURES[i])[1] for i in pair]
    if pair[0] == pair[1]:
        noise = np.random.default_rng(5).normal(0, 6, descriptors[1].shape).astype(np.float32)
        descriptors[1] = np.maximum(descriptors[1] + noise, 0)
    ours, theirs = (mbr_sift.encode(d) for d in descriptors)
    distances = mbr_sift.coarse_distances(ours.coarse, theirs.coarse)
    rows = np.flatnonzero(distances.min(axis=1) <= mbr_sift.COARSE_LIMIT)
    found = mbr_sift.match(ours, theirs, distances, rows)
    by_row = dict(zip(found.query.tolist(), found.index.tolist(), strict=True))
    assert len(by_row) == len(found.query), "a query matches once"
    assert (np.diff(found.distance) >= 0).all(), "best first"
    decided = 0
    for row in rows.tolist():
        order = sorted(range(len(theirs.coarse)), key=lambda j: int(distances[row, j]))
        hamming = [int(distances[row, j]) for j in order]
        keep = 2 if 2 * hamming[0] < hamming[1] else 5
        if hamming[keep - 1] == hamming[keep]:
            continue  # which of the equally near are kept is nobody's promise
        decided += 1
        groups = {j: int(mbr_sift.fine_equal_groups(ours.fine[row], theirs.fine[j])) for j in order[:keep]}
        best, second = sorted(groups, key=lambda j: -groups[j])[:2]
        passes = math.acos(groups[best] / 64) < 0.84 * math.acos(groups[second] / 64)
        assert by_row.get(row) == (best if passes else None)
    assert decided > 0 or not len(rows)
    if pair[0] == pair[1]:
        assert len(found.query) > 100
        assert (found.query == found.index).mean() > 0.9


def test_no_descriptors_and_one_are_codes_and_match_nothing() -> None:
    many = mbr_sift.encode(_descriptors(1, 9))
    for count in (0, 1):
        few = mbr_sift.encode(_descriptors(2, count))
        assert few.coarse.shape == (count, 16)
        distances = mbr_sift.coarse_distances(many.coarse, few.coarse)
        assert len(mbr_sift.match(many, few, distances, np.arange(9)).query) == 0
        distances = mbr_sift.coarse_distances(few.coarse, many.coarse)
        assert len(mbr_sift.match(few, many, distances, np.arange(0)).query) == 0
