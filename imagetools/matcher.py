"""Decide whether two images show the same picture, and say why."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from imagetools import agreement, calibration, geometry, mbr_sift, wording
from imagetools.features import THUMB_SIDE, Features, extract_features
from imagetools.geometry import Map

__all__ = ["Features", "MatcherConfig", "Verification", "extract", "verify"]

MOST_POINTS: Final = 64


@dataclass(frozen=True)
class MatcherConfig:
    """Settings of the matcher.

    threshold      score from which a pair is a duplicate, 0 to 1
    width, height  the box that an image is fitted to, pixels
    max_keypoints  the strongest that are kept of an image
    contrast       SIFT's contrast threshold
    """

    threshold: float = 0.75
    width: int = 208
    height: int = 208
    max_keypoints: int = 256
    contrast: float = 0.02


@dataclass(frozen=True)
class Verification:
    """The verdict on a pair, with its evidence.

    score               0 to 1, the share of pairs with such evidence that are copies, at even odds beforehand
    duplicate           score ≥ threshold
    inliers             matches that agree with the map
    agreement           share of the textured overlap that looks the same, 0 to 1
    mirrored            left and right are exchanged before the turn
    scale               growth of lengths from neighbor to candidate, each measured in its own longer side
    angle               turn from neighbor to candidate, degrees counter-clockwise, (-180, 180]
    coverage_candidate  share of the candidate's area that the neighbor covers, 0 to 1
    coverage_neighbor   share of the neighbor's area that the candidate covers, 0 to 1
    edit                what was done to the neighbor to get the candidate, in plain words; "" for no copy
    points              up to 64 inliers: x, y in the candidate, x, y in the neighbor, each 0 to 1 from the upper left
    gate                the first gate that failed, "" when all passed
    """

    score: float
    duplicate: bool
    inliers: int
    agreement: float
    mirrored: bool
    scale: float
    angle: float
    coverage_candidate: float
    coverage_neighbor: float
    edit: str
    points: tuple[tuple[float, float, float, float], ...]
    gate: str


# A pair needs this many descriptors within this many of 128 bits: 19 of 20 unrelated pairs have at most one
_COARSE_GATE: Final = 3
_COARSE_NEAR: Final = 20
_MIN_MATCHES: Final = 4
_MIN_INLIERS: Final = 4
_WHOLE_CORRELATION: Final = 0.75


@dataclass(frozen=True)
class _Overlay:
    """One way of laying the first image over the second, and what it shows."""

    affine: Map
    inliers: int
    points: tuple[tuple[complex, complex], ...]
    agreement: agreement.Agreement
    score: float


def extract(image: Image.Image, config: MatcherConfig) -> Features:
    """Compute what `verify` needs of an RGB image, of any size from 1 × 1."""
    return extract_features(image, (config.width, config.height), config.max_keypoints, config.contrast)


def verify(candidate: Features, neighbor: Features, config: MatcherConfig) -> Verification:
    """Decide whether two images show the same picture.

    Gates, in order: close codes, ratio test, geometry, minimum inliers, agreement; a pair of whole pictures whose
    thumbnails correlate skips to agreement. Having no keypoints is a verdict, not an error. Symmetric: the pair is put
    in one order first. Safe to call from many threads.
    """
    first, second = sorted((candidate, neighbor), key=lambda features: features.key)
    overlays: list[_Overlay] = []
    found, gate = _by_keypoints(first, second)
    if found is not None:
        overlays.append(found)
    whole = _by_whole(first, second)
    if whole is not None:
        overlays.append(whole)
    if not overlays:
        return _rejected(gate)
    best = max(overlays, key=lambda overlay: overlay.score)
    score = 1.0 if candidate.key == neighbor.key else best.score
    return _verdict(best, score, candidate, neighbor, config, from_candidate=first is candidate)


def _by_keypoints(first: Features, second: Features) -> tuple[_Overlay | None, str]:
    if min(first.count, second.count) < _MIN_MATCHES:
        return None, "too few keypoints"
    codes = mbr_sift.Codes(second.codes.coarse[: second.count], second.codes.fine[: second.count])
    distances = mbr_sift.coarse_distances(first.codes.coarse, codes.coarse)
    nearest = distances.min(axis=1)
    if int((nearest <= _COARSE_NEAR).sum()) < _COARSE_GATE:
        return None, "too few close codes"
    matches = mbr_sift.match(first.codes, codes, distances, np.flatnonzero(nearest <= mbr_sift.COARSE_LIMIT))
    best: tuple[geometry.Consensus, mbr_sift.Matches, bool] | None = None
    for mirrored in (False, True):
        kind = np.flatnonzero((matches.query >= first.count) == mirrored)
        if len(kind) < _MIN_MATCHES:
            continue
        rows, columns = matches.query[kind], matches.index[kind]
        consensus = geometry.find_consensus(
            first.keypoints.at[rows],
            first.keypoints.frame[rows],
            second.keypoints.at[columns],
            second.keypoints.frame[columns],
        )
        if consensus is not None and (best is None or len(consensus.inliers) > len(best[0].inliers)):
            own = mbr_sift.Matches(rows, columns, matches.distance[kind])
            best = consensus, own, mirrored
    if best is None:
        return None, "no common geometry" if len(matches.query) >= _MIN_MATCHES else "too few matches"
    consensus, matches, mirrored = best
    if len(consensus.inliers) < _MIN_INLIERS:
        return None, "too few inliers"
    at = first.keypoints.at[matches.query[consensus.inliers]]
    affine = consensus.affine
    if mirrored:
        at = np.complex64(first.width - 1) - at.conj()
        affine = geometry.compose(affine, geometry.mirror_map(first.width))
    to = second.keypoints.at[matches.index[consensus.inliers]]
    pairs = tuple(zip(at.tolist(), to.tolist(), strict=True))
    compared = agreement.compare(affine, first.pyramid, second.pyramid)
    return _Overlay(affine, len(pairs), pairs, compared, calibration.score_of(compared, len(pairs))), ""


def _by_whole(first: Features, second: Features) -> _Overlay | None:
    likeness = first.views @ second.views[0]
    view = int(likeness.argmax())
    affine = geometry.whole_picture_map(view, (first.width, first.height), (second.width, second.height))
    plain = _same_colours(first, second, view)
    if likeness[view] < _WHOLE_CORRELATION and not plain:
        return None
    compared = agreement.compare(affine, first.pyramid, second.pyramid)
    if compared.textured < 0.1:
        return _Overlay(affine, 0, (), compared, 0.95) if plain else None
    return _Overlay(affine, 0, (), compared, calibration.score_of(compared, 8))


def _same_colours(first: Features, second: Features, view: int) -> bool:
    colours = first.colours[:, ::-1] if view >= 4 else first.colours
    gap = np.abs(np.rot90(colours, view % 4) - second.colours)
    return bool(gap.mean() < 2.0 and gap.max() < 8.0)


def _rejected(gate: str) -> Verification:
    return Verification(0.0, False, 0, 0.0, False, 1.0, 0.0, 0.0, 0.0, "", (), gate)


def _verdict(
    overlay: _Overlay,
    score: float,
    candidate: Features,
    neighbor: Features,
    config: MatcherConfig,
    *,
    from_candidate: bool,
) -> Verification:
    affine = geometry.inverse(overlay.affine) if from_candidate else overlay.affine
    sizes = (neighbor.width, neighbor.height), (candidate.width, candidate.height)
    shape = wording.shape_of(affine, *sizes)
    coverage_neighbor, coverage_candidate = geometry.covered_shares(affine, *sizes)
    duplicate = score >= config.threshold
    looks = _looks(overlay, candidate, neighbor)
    return Verification(
        score=score,
        duplicate=duplicate,
        inliers=overlay.inliers,
        agreement=overlay.agreement.share,
        mirrored=shape.mirrored,
        scale=shape.scale,
        angle=shape.angle,
        coverage_candidate=coverage_candidate,
        coverage_neighbor=coverage_neighbor,
        edit=wording.describe(shape, looks, coverage_candidate, coverage_neighbor) if duplicate else "",
        points=_points(overlay, candidate, neighbor, from_candidate=from_candidate),
        gate="" if duplicate else "pictures disagree",
    )


def _looks(overlay: _Overlay, candidate: Features, neighbor: Features) -> wording.Looks:
    saturations = [float(np.ptp(side.colours, axis=2).mean()) for side in (candidate, neighbor)]
    return wording.Looks(
        covered=overlay.agreement.hole,
        grey=min(saturations) < 2 and max(saturations) > 6,
        recoloured=False,
        flat=_flat_share(candidate),
        shrunk=max(candidate.original) / max(neighbor.original),
    )


def _flat_share(features: Features) -> float:
    edge = np.concatenate([features.colours[0], features.colours[-1], features.colours[:, 0], features.colours[:, -1]])
    near = np.abs(edge - np.median(edge, axis=0)).max(axis=1) < 3
    return float(near.sum()) / (2 * THUMB_SIDE)


def _points(
    overlay: _Overlay, candidate: Features, neighbor: Features, *, from_candidate: bool
) -> tuple[tuple[float, float, float, float], ...]:
    points = []
    for one, two in overlay.points[:MOST_POINTS]:
        here, there = (one, two) if from_candidate else (two, one)
        points.append((*_normalised(here, candidate), *_normalised(there, neighbor)))
    return tuple(points)


def _normalised(at: complex, features: Features) -> tuple[float, float]:
    x, y = (at.real + 0.5) / features.width, (at.imag + 0.5) / features.height
    return min(1.0, max(0.0, x)), min(1.0, max(0.0, y))
