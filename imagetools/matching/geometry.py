"""Maps between two images: found by consensus of matches, refined, and measured.

A map is float64 (2, 3), affine: it takes (x, y, 1) in pixels of one fitted image to (x, y) of the other.
"""

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float64]
Points = NDArray[np.complex64]

# A keypoint's size and direction are off by some 10 % and 6°, so its prediction is off by that share of the distance
_CONE: Final = 0.12
_LEEWAY: Final = 4.0
_MAX_HYPOTHESES: Final = 64
_MAX_REFINED: Final = 3
_MIN_AGREEING: Final = 3
# With this many inliers the first map is not improved on by the next
_CLEAR_INLIERS: Final = 16
_TOLERANCES: Final = (8.0, 5.0, 3.5, 3.0)
# A photo stretched from 16:9 to a square is 1.8 times as wide for its height; more than 2.5 is a chance map
_MAX_STRETCH: Final = 2.5
_SCALES: Final = (0.1, 10.0)
_AFFINE_FROM: Final = 5


@dataclass(frozen=True)
class Consensus:
    """A map and the matches that agree with it.

    affine      from the query to the index image
    inliers     intp (k,), rows of the matches, each keypoint of the index image and of the query once at most
    similarity  the map without stretch that fits the inliers best: those in one corner, or on one line, leave an
                affine map free to stretch the rest of the picture
    """

    affine: Map
    inliers: NDArray[np.intp]
    similarity: Map | None


def find_consensus(query: Points, query_frame: Points, index: Points, index_frame: Points) -> Consensus | None:
    """Return the map that most matches agree on, or None where too few agree.

    Each of the best matches proposes the similarity between its two keypoints, by their sizes and directions. Without
    random sampling, equal matches give equal maps. The best few are refined to affine maps.
    query, query_frame, index, index_frame  complex64 (k,), one a match, best first
    """
    seeds = min(_MAX_HYPOTHESES, len(query))
    if seeds < _MIN_AGREEING:
        return None
    turn = index_frame[:seeds] / query_frame[:seeds]
    away = turn[:, np.newaxis] * (query - query[:seeds, np.newaxis])
    gap = np.abs(index - index[:seeds, np.newaxis] - away)
    relative = index_frame / query_frame / turn[:, np.newaxis]
    alike = (np.abs(relative - 1) < 0.6) & (gap < _LEEWAY + _CONE * np.abs(away))
    votes = alike.sum(axis=1)
    best: Consensus | None = None
    for seed in np.argsort(-votes, kind="stable")[:_MAX_REFINED]:
        if votes[seed] < _MIN_AGREEING or (best is not None and len(best.inliers) >= min(votes[seed], _CLEAR_INLIERS)):
            break
        refined = _refine(query, index, np.flatnonzero(alike[seed]))
        if refined is not None and (best is None or len(refined.inliers) > len(best.inliers)):
            best = refined
    return best


def _refine(query: Points, index: Points, agreeing: NDArray[np.intp]) -> Consensus | None:
    affine: Map | None = None
    for tolerance in _TOLERANCES:
        if len(agreeing) < 3:
            return None
        fitted = fit_map(query[agreeing], index[agreeing])
        if fitted is None:
            return None
        affine = fitted
        agreeing = _near(affine, query, index, tolerance)
    if affine is None:
        return None
    agreeing = agreeing_matches(affine, query, index, _TOLERANCES[-1])
    if len(agreeing) < _MIN_AGREEING:
        return None
    similarity = _fit_similarity(query[agreeing], index[agreeing])
    plain = similarity is not None and is_plausible(similarity)
    return Consensus(affine, agreeing, similarity if plain else None)


def _near(affine: Map, query: Points, index: Points, tolerance: float) -> NDArray[np.intp]:
    return np.flatnonzero(np.abs(apply(affine, query) - index) < tolerance * max(1.0, scale_of(affine)))


def agreeing_matches(affine: Map, query: Points, index: Points, tolerance: float) -> NDArray[np.intp]:
    """Return the rows within `tolerance` pixels, measured in the image that is shrunk, each keypoint once."""
    return each_spot_once(_near(affine, query, index, tolerance), query, index)


def each_spot_once(rows: NDArray[np.intp], query: Points, index: Points) -> NDArray[np.intp]:
    """Return the rows without those that repeat a spot: SIFT repeats a keypoint for each of its directions."""
    for side in (query, index):
        _, first = np.unique(np.round(side[rows]), return_index=True)
        rows = rows[np.sort(first)]
    return rows


def fit_map(query: Points, index: Points) -> Map | None:
    """Return the least-squares affine map, a similarity where there are too few points, None where it is absurd."""
    if len(query) >= _AFFINE_FROM:
        affine = _fit_affine(query, index)
        if affine is not None and is_plausible(affine):
            return affine
    similarity = _fit_similarity(query, index)
    return similarity if similarity is not None and is_plausible(similarity) else None


def _fit_affine(query: Points, index: Points) -> Map | None:
    centre, middle = _middle(query), _middle(index)
    away = query - np.complex64(centre)
    # least squares of two centred coordinates, written out: a solver's overhead is ten times the work
    rows = np.asarray(away, dtype=np.complex128).view(np.float64).reshape(-1, 2)
    target = np.asarray(index - np.complex64(middle), dtype=np.complex128).view(np.float64).reshape(-1, 2)
    (xx, xy), (_, yy) = (rows.T @ rows).tolist()
    spread = xx * yy - xy * xy
    if spread < 1e-3 * len(query) ** 2:
        return None
    linear = (target.T @ rows) @ np.array([[yy, -xy], [-xy, xx]]) / spread
    shift = np.array([middle.real, middle.imag]) - linear @ [centre.real, centre.imag]
    return np.column_stack([linear, shift])


def _fit_similarity(query: Points, index: Points) -> Map | None:
    centre, middle = _middle(query), _middle(index)
    away, target = query - np.complex64(centre), index - np.complex64(middle)
    spread = float(np.vdot(away, away).real)
    if spread < 1e-3:
        return None
    turn = complex(np.vdot(away, target)) / spread
    shift = middle - turn * centre
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _middle(points: Points) -> complex:
    # ndarray.mean takes five times as long for a few points
    return complex(points.sum()) / len(points)


def apply(affine: Map, points: Points) -> NDArray[np.complex128]:
    """Return the mapped points."""
    x, y = points.real, points.imag
    mapped: NDArray[np.complex128] = (affine[0, 0] * x + affine[0, 1] * y + affine[0, 2]) + 1j * (
        affine[1, 0] * x + affine[1, 1] * y + affine[1, 2]
    )
    if len(affine) == 2:
        return mapped
    return np.asarray(mapped / (affine[2, 0] * x + affine[2, 1] * y + affine[2, 2]))


def scale_of(affine: Map) -> float:
    """Return the square root of the factor by which areas grow."""
    return math.sqrt(abs(determinant(affine)))


def determinant(affine: Map) -> float:
    """Return the determinant of the linear part; negative for a mirroring map."""
    return float(affine[0, 0] * affine[1, 1] - affine[0, 1] * affine[1, 0])


def is_plausible(affine: Map) -> bool:
    """Tell whether an edit could have made this map: no mirroring, no extreme scale or stretch."""
    if determinant(affine) <= 0:
        return False
    larger, smaller = stretches(affine)
    return smaller > _SCALES[0] and larger < _SCALES[1] and larger < _MAX_STRETCH * smaller


def stretches(affine: Map) -> tuple[float, float]:
    """Return by how much lengths grow in the direction of most growth, and in that of least."""
    (a, b, _), (c, d, _) = affine.tolist()
    # singular values of a 2 × 2 matrix
    turning, mirroring = math.hypot(a + d, c - b), math.hypot(a - d, c + b)
    return (turning + mirroring) / 2, abs(turning - mirroring) / 2


def compose(outer: Map, inner: Map) -> Map:
    """Return the map that applies `inner`, then `outer`; in perspective where either is."""
    if len(outer) == 3 or len(inner) == 3:
        product = _squared(outer) @ _squared(inner)
        return np.asarray(product / product[2, 2])
    linear = outer[:, :2] @ inner[:, :2]
    return np.column_stack([linear, outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def inverse(affine: Map) -> Map:
    """Return the inverse map."""
    if len(affine) == 3:
        back = np.linalg.inv(affine)
        return np.asarray(back / back[2, 2])
    linear = np.linalg.inv(affine[:, :2])
    return np.column_stack([linear, -linear @ affine[:, 2]])


def _squared(affine: Map) -> Map:
    return affine if len(affine) == 3 else np.vstack([affine, [0.0, 0.0, 1.0]])


def affine_at_middle(perspective: Map, source: tuple[int, int]) -> Map:
    """Return the affine map nearest to a perspective one over a whole source of (width, height), by least squares."""
    width, height = source
    at = (np.linspace(0, width - 1, 5) + 1j * np.linspace(0, height - 1, 5)[:, np.newaxis]).ravel()
    to = apply(perspective, at.astype(np.complex64))
    rows = np.column_stack([at.real, at.imag, np.ones(len(at))])
    found, *_ = np.linalg.lstsq(rows, np.column_stack([to.real, to.imag]), rcond=None)
    return np.ascontiguousarray(found.T)


def mirror_map(width: int) -> Map:
    """Return the map that exchanges left and right in an image of this width."""
    return np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]])


def whole_picture_map(view: int, source: tuple[int, int], target: tuple[int, int]) -> Map:
    """Return the map of one whole picture onto another.

    view    0 to 3: quarter turns counter-clockwise; 4 to 7: the same after exchanging left and right
    source  (width, height)
    target  (width, height)
    """
    # unit square, y downwards; a pixel's middle is at + 1/2
    into_unit = np.array([[1 / source[0], 0, 0.5 / source[0]], [0, 1 / source[1], 0.5 / source[1]]])
    affine = into_unit
    if view >= 4:
        affine = compose(np.array([[-1.0, 0, 1], [0, 1, 0]]), affine)
    for _ in range(view % 4):
        affine = compose(np.array([[0.0, 1, 0], [-1, 0, 1]]), affine)
    out_of_unit = np.array([[target[0], 0, -0.5], [0, target[1], -0.5]], dtype=np.float64)
    return compose(out_of_unit, affine)


def share_kept_by_turn(angle: float, size: tuple[int, int]) -> float:
    """Return the share of a picture of (width, height) that stays in its frame when it is turned about its middle.

    angle  degrees, taken from the nearest quarter turn
    """
    turn = math.radians((angle + 45) % 90 - 45)
    middle = np.array([size[0] - 1, size[1] - 1]) / 2
    linear = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return covered_shares(np.column_stack([linear, middle - linear @ middle]), size, size)[0]


def covered_shares(affine: Map, source: tuple[int, int], target: tuple[int, int]) -> tuple[float, float]:
    """Return the share of the source inside the target, and the share of the target inside the mapped source."""
    width, height = source
    corners = np.array([[-0.5, -0.5], [width - 0.5, -0.5], [width - 0.5, height - 0.5], [-0.5, height - 0.5]])
    mapped = (corners @ affine[:, :2].T + affine[:, 2]).astype(np.float32)
    right, bottom = target[0] - 0.5, target[1] - 0.5
    frame = np.array([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]], dtype=np.float32)
    area, _ = cv2.intersectConvexConvex(mapped, frame)
    growth = max(abs(determinant(affine)), 1e-9)
    return min(1.0, area / (width * height * growth)), min(1.0, area / (target[0] * target[1]))
