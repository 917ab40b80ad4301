"""Perspective between two pictures: photographs of a print or a screen, and copies whose corners were moved.

A keystone of a few percent leaves most of an affine map's inliers where they are and the corners of the picture off by
ten pixels. A homography is fitted to all matches, and refined on the pictures themselves.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imagetools.matching import geometry
from imagetools.matching.ecc import common_levels, refined
from imagetools.matching.geometry import Map, Points
from imagetools.matching.planes import Grey
from imagetools.matching.registration import shrunk

# Pixels of the fitted image by which a match may miss
_TOLERANCE: Final = 3.0
_MIN_INLIERS: Final = 8
_MAX_ROUNDS: Final = 2000
_CONFIDENCE: Final = 0.999
# How much larger one corner may become than another: a print photographed from its very edge
_MAX_STRETCH: Final = 3.0
_ROUNDS: Final = 40


def find_homography(at: Points, to: Points, source: tuple[int, int]) -> tuple[Map, NDArray[np.intp]] | None:
    """Return the perspective map, float64 (3, 3), that most matches agree on, and their rows; None where it is absurd.

    at, to  complex64 (k,), where the matches are in the source and in the target
    source  (width, height)
    """
    if len(at) < _MIN_INLIERS:
        return None
    query, index = (np.column_stack([side.real, side.imag]).astype(np.float64) for side in (at, to))
    # OpenCV draws from a seed of its own, so that equal points give equal maps
    found, _ = cv2.findHomography(
        query, index, cv2.USAC_MAGSAC, _TOLERANCE, maxIters=_MAX_ROUNDS, confidence=_CONFIDENCE
    )
    if found is None:
        return None
    homography = np.asarray(found, dtype=np.float64)
    if not is_plausible(homography, source):
        return None
    rows = np.flatnonzero(np.abs(geometry.apply(homography, at) - to) < _TOLERANCE)
    rows = geometry.each_spot_once(rows, at, to)
    return (homography, rows) if len(rows) >= _MIN_INLIERS else None


def is_plausible(perspective: Map, source: tuple[int, int]) -> bool:
    """Tell whether a camera or an edit could have made the map: the picture stays convex, and no corner runs away."""
    if not np.isfinite(perspective).all():
        return False
    width, height = source
    corners = np.array([0, width, width + 1j * height, 1j * height], dtype=np.complex64)
    depth = perspective[2, 0] * corners.real + perspective[2, 1] * corners.imag + perspective[2, 2]
    if depth.min() * depth.max() <= 0 or np.abs(depth).max() > _MAX_STRETCH * np.abs(depth).min():
        return False
    mapped = geometry.apply(perspective, corners)
    sides = np.roll(mapped, -1) - mapped
    turns = np.imag(np.conj(sides) * np.roll(sides, -1))
    near = geometry.affine_at_middle(perspective, source)
    if geometry.determinant(near) < 0:
        near = geometry.compose(near, geometry.mirror_map(width))
        turns = -turns
    return bool((turns > 0).all()) and geometry.is_plausible(near)


def refine(perspective: Map, source: tuple[Grey, ...], target: tuple[Grey, ...]) -> Map:
    """Move the map to where the pictures correlate best, as `agreement.refine` does for affine maps."""
    best = perspective
    for level in common_levels(source, target):
        moved = refined(best, source, target, level, _ROUNDS)
        if moved is None or not is_plausible(moved, source[0].shape[::-1]):
            return best
        best = moved
    return best


def straightened(source: Grey, target: Grey, perspective: Map) -> Grey:
    """Return the source as it lies in the target's frame, the target itself where the source does not reach."""
    size = target.shape[1], target.shape[0]
    # the nearest affine map tells by how much the source shrinks, and only averaging keeps fine print then
    near = geometry.scale_of(geometry.affine_at_middle(perspective, source.shape[::-1]))
    source, into = shrunk(source, near)
    perspective = geometry.compose(perspective, geometry.inverse(into))
    warped = cv2.warpPerspective(source, perspective, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpPerspective(np.full_like(source, 255), perspective, size, flags=cv2.INTER_NEAREST)
    return np.where(inside > 0, np.asarray(warped, dtype=np.uint8), target)
