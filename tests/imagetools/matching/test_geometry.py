import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imagetools.matching import geometry

SEEDS = st.integers(0, 2**32 - 1)
CORNERS = np.array([0, 199, 149j, 199 + 149j])


def _map(rng: np.random.Generator) -> geometry.Map:
    """A turn by any angle, a scale of a third to three, a stretch up to 1.5, a shift."""
    angle, along = rng.uniform(0, 2 * np.pi, 2)
    scale, stretch = 3 ** rng.uniform(-1, 1), 1.5 ** rng.uniform(0, 1)
    turn, lean = (np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in (angle, along))
    linear = scale * turn @ lean @ np.diag([stretch**0.5, stretch**-0.5]) @ lean.T
    return np.column_stack([linear, rng.uniform(-200, 200, 2)])


def _similarity(rng: np.random.Generator) -> tuple[geometry.Map, complex]:
    turn = complex(3 ** rng.uniform(-1, 1) * np.exp(1j * rng.uniform(0, 2 * np.pi)))
    x, y = rng.uniform(-100, 100, 2)
    return np.array([[turn.real, -turn.imag, x], [turn.imag, turn.real, y]]), turn


def _matches(rng: np.random.Generator, true: geometry.Map, turn: complex, right: int, wrong: int, noise: float):
    """Keypoints whose sizes and directions follow the map, and wrong ones, in random order."""
    count = right + wrong
    query = rng.uniform(0, 200, count) + 1j * rng.uniform(0, 150, count)
    frame = rng.uniform(3, 20, count) * np.exp(1j * rng.uniform(0, 2 * np.pi, count))
    index = geometry.apply(true, query) + noise * (rng.normal(size=count) + 1j * rng.normal(size=count))
    index_frame = frame * turn * np.exp(0.05 * (rng.normal(size=count) + 1j * rng.normal(size=count)))
    bad = rng.permutation(count)[:wrong]
    index[bad] = rng.uniform(0, 300, wrong) + 1j * rng.uniform(0, 300, wrong)
    index_frame[bad] = rng.uniform(3, 20, wrong) * np.exp(1j * rng.uniform(0, 2 * np.pi, wrong))
    parts = tuple(part.astype(np.complex64) for part in (query, frame, index, index_frame))
    return parts, set(range(count)) - set(bad.tolist())


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_a_known_similarity_is_recovered_to_a_pixel_among_as_many_wrong_matches(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, turn = _similarity(rng)
    parts, right = _matches(rng, true, turn, 30, 30, noise=0.3 * max(1, abs(turn)))
    found = geometry.find_consensus(*parts)
    assert found is not None
    off = np.abs(geometry.apply(found.affine, CORNERS) - geometry.apply(true, CORNERS))
    # measured in the smaller of the two images
    assert (off / max(1, abs(turn))).max() < 1
    assert len(right & set(found.inliers.tolist())) >= 27
    assert len(set(found.inliers.tolist()) - right) <= 3


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_a_known_affine_map_is_fitted_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = _map(rng)
    query = (rng.uniform(0, 200, 12) + 1j * rng.uniform(0, 150, 12)).astype(np.complex64)
    fitted = geometry.fit_map(query, geometry.apply(true, query).astype(np.complex64))
    assert fitted is not None
    off = np.abs(geometry.apply(fitted, CORNERS) - geometry.apply(true, CORNERS))
    assert off.max() < 0.05


def test_wrong_matches_alone_agree_on_next_to_nothing() -> None:
    most = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        parts, _ = _matches(rng, *_similarity(rng), 0, 40, noise=0)
        found = geometry.find_consensus(*parts)
        most = max(most, 0 if found is None else len(found.inliers))
    assert most <= 5


def test_a_spot_counts_once_however_often_it_is_matched() -> None:
    at = np.array([10 + 10j] * 5 + [40 + 12j, 30 + 50j], dtype=np.complex64)
    assert len(geometry.agreeing_matches(np.eye(2, 3), at, at, 3.0)) == 3


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_matches_have_no_consensus(count: int) -> None:
    some = np.arange(1, count + 1).astype(np.complex64)
    assert geometry.find_consensus(some, some, some, some) is None


def test_equal_matches_give_equal_maps() -> None:
    rng = np.random.default_rng(3)
    parts, _ = _matches(rng, *_similarity(rng), 20, 60, noise=1)
    one, two = geometry.find_consensus(*parts), geometry.find_consensus(*parts)
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(one.affine, two.affine)
    np.testing.assert_array_equal(one.inliers, two.inliers)


def test_points_on_one_line_still_fit_a_similarity() -> None:
    line = np.linspace(0, 100, 8).astype(np.complex64)
    fitted = geometry.fit_map(line, (2j * line + 5).astype(np.complex64))
    assert fitted is not None
    np.testing.assert_allclose(fitted, [[0, -2, 5], [2, 0, 0]], atol=1e-4)


def test_a_map_that_mirrors_stretches_or_shrinks_beyond_reason_is_not_plausible() -> None:
    assert geometry.is_plausible(np.array([[1.3, 0, 0], [0, 0.9, 0]]))
    assert not geometry.is_plausible(np.array([[-1.0, 0, 0], [0, 1, 0]]))
    assert not geometry.is_plausible(np.array([[3.0, 0, 0], [0, 1, 0]]))
    assert not geometry.is_plausible(np.array([[0.05, 0, 0], [0, 0.05, 0]]))
    assert not geometry.is_plausible(np.zeros((2, 3)))


@given(SEEDS)
def test_a_map_and_its_inverse_undo_each_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, other = _map(rng), _map(rng)
    np.testing.assert_allclose(geometry.compose(geometry.inverse(true), true), np.eye(2, 3), atol=1e-9)
    one_by_one = geometry.apply(other, geometry.apply(true, CORNERS))  # type: ignore[arg-type] # double precision
    np.testing.assert_allclose(geometry.apply(geometry.compose(other, true), CORNERS), one_by_one, atol=1e-9)
    assert geometry.scale_of(true) == pytest.approx(math.sqrt(geometry.determinant(true)))


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 7))
def test_a_whole_picture_lands_pixel_on_pixel(width: int, height: int, view: int) -> None:
    picture = np.arange(width * height).reshape(height, width)
    turned = np.rot90(picture[:, ::-1] if view >= 4 else picture, view % 4)
    affine = geometry.whole_picture_map(view, (width, height), (turned.shape[1], turned.shape[0]))
    for (y, x), value in np.ndenumerate(picture):
        to = geometry.apply(affine, np.array([x + 1j * y]))[0]
        assert abs(to - complex(round(to.real), round(to.imag))) < 1e-9
        assert turned[round(to.imag), round(to.real)] == value


@given(st.integers(1, 9))
def test_the_mirror_map_exchanges_left_and_right(width: int) -> None:
    across = np.arange(width).astype(complex)
    np.testing.assert_allclose(geometry.apply(geometry.mirror_map(width), across), across[::-1])


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_covered_shares_equal_a_count_of_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, target = ((int(w), int(h)) for w, h in rng.integers(40, 120, (2, 2)))
    affine = geometry.compose(np.column_stack([np.eye(2), rng.uniform(0, 120, 2)]), _map(rng))
    affine[:, 2] = np.array(target) / 2 - affine[:, :2] @ (np.array(source) / 2) + rng.uniform(-40, 40, 2)
    if rng.random() < 0.5:
        affine = geometry.compose(affine, geometry.mirror_map(source[0]))
    assume(geometry.scale_of(affine) > 0.2)

    def counted(there: geometry.Map, ours: tuple[int, int], theirs: tuple[int, int]) -> float:
        x, y = np.meshgrid(np.arange(ours[0]), np.arange(ours[1]))
        at = geometry.apply(there, (x + 1j * y).ravel())
        inside = (np.abs(at.real + 0.5 - theirs[0] / 2) < theirs[0] / 2) & (
            np.abs(at.imag + 0.5 - theirs[1] / 2) < theirs[1] / 2
        )
        return float(inside.mean())

    of_source, of_target = geometry.covered_shares(affine, source, target)
    assert of_source == pytest.approx(counted(affine, source, target), abs=0.03)
    assert of_target == pytest.approx(counted(geometry.inverse(affine), target, source), abs=0.03)


def test_nothing_is_covered_where_nothing_overlaps() -> None:
    assert geometry.covered_shares(np.array([[1.0, 0, 500], [0, 1, 0]]), (100, 80), (90, 70)) == (0.0, 0.0)
