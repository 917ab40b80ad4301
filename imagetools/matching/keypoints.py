"""Match the keypoints of two images, and find the map that most of the matches agree on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagetools.features import mbr_sift
from imagetools.features.extract import Features
from imagetools.matching import geometry
from imagetools.matching.geometry import Map

# A pair needs this many descriptors within this many of 128 bits: half of all look-alikes have not. A map needs four
# inliers, but of the largest keypoints of a picture with a small photo pasted on it few are the photo's: four here
# would miss 3 in 100 of these
_MIN_CLOSE_CODES: Final = 2
_MAX_CLOSE_BITS: Final = 20
# The largest keypoints of one image, compared before all others: half the work for the many pairs that end there
_FIRST_COMPARED: Final = 128
_MIN_MATCHES: Final = 4
_MIN_INLIERS: Final = 4

Inliers = tuple[tuple[complex, complex], ...]
"""Points of the first image and of the second that agree with a map, best first."""


@dataclass(frozen=True)
class KeypointConsensus:
    """An affine map, then the similarity nearest to it if there is one, the inliers of both, and all matches."""

    maps: Sequence[Map]
    points: Inliers
    at: NDArray[np.complex64]
    to: NDArray[np.complex64]


def match_keypoints(first: Features, second: Features) -> tuple[KeypointConsensus | None, str]:
    """Return what the matching keypoints of the pair agree on; None and the gate where they do not match."""
    if min(first.count, second.count) < _MIN_MATCHES:
        return None, "too few keypoints"
    codes = mbr_sift.Codes(second.codes.coarse[: second.count], second.codes.fine[: second.count])
    distances = _coarse_distances(first, codes.coarse)
    if distances is None:
        return None, "too few close codes"
    nearest = distances.min(axis=1)
    matches = mbr_sift.match(first.codes, codes, distances, np.flatnonzero(nearest <= mbr_sift.COARSE_LIMIT))
    if len(matches.query) < _MIN_MATCHES:
        return None, "too few matches"
    consensus = _consensus(first, second, matches)
    return consensus, "" if consensus else "no common geometry"


def _coarse_distances(first: Features, codes: mbr_sift.Bits) -> mbr_sift.Bits | None:
    """Return the distances of all codes of the first image, or None where its largest keypoints are near to nothing."""
    mirrored = first.codes.coarse[first.count :]
    compared = min(_FIRST_COMPARED, first.count)
    halves = [mbr_sift.coarse_distances(np.concatenate([first.codes.coarse[:compared], mirrored[:compared]]), codes)]
    if np.count_nonzero(halves[0].min(axis=1) <= _MAX_CLOSE_BITS) < _MIN_CLOSE_CODES:
        return None
    if compared == first.count:
        return halves[0]
    rest = np.concatenate([first.codes.coarse[compared : first.count], mirrored[compared:]])
    halves.append(mbr_sift.coarse_distances(rest, codes))
    left = first.count - compared
    return np.concatenate([halves[0][:compared], halves[1][:left], halves[0][compared:], halves[1][left:]])


def _consensus(first: Features, second: Features, matches: mbr_sift.Matches) -> KeypointConsensus | None:
    """Return what most matches of one kind, plain or mirrored, agree on."""
    of_mirror = matches.query >= first.count
    kinds = [(mirrored, np.flatnonzero(of_mirror == mirrored)) for mirrored in (False, True)]
    best: KeypointConsensus | None = None
    for mirrored, kind in sorted(kinds, key=lambda kind: -len(kind[1])):
        needed = max(_MIN_INLIERS, len(best.points) + 1 if best else 0)
        if len(kind) < needed:
            continue
        found = _consensus_of_kind(first, second, matches, kind, mirrored=mirrored)
        if found and len(found.points) >= needed:
            best = found
    return best


def _consensus_of_kind(
    first: Features, second: Features, matches: mbr_sift.Matches, kind: NDArray[np.intp], *, mirrored: bool
) -> KeypointConsensus | None:
    rows, columns = matches.query[kind], matches.index[kind]
    consensus = geometry.find_consensus(
        first.keypoints.at[rows],
        first.keypoints.frame[rows],
        second.keypoints.at[columns],
        second.keypoints.frame[columns],
    )
    if consensus is None:
        return None
    at, to = first.keypoints.at[rows], second.keypoints.at[columns]
    maps = [consensus.affine] if consensus.similarity is None else [consensus.affine, consensus.similarity]
    if mirrored:
        at = np.complex64(first.width - 1) - at.conj()
        maps = [geometry.compose(affine, geometry.mirror_map(first.width)) for affine in maps]
    points = zip(at[consensus.inliers].tolist(), to[consensus.inliers].tolist(), strict=True)
    return KeypointConsensus(maps, tuple(points), at, to)
