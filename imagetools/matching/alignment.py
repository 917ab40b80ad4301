"""Ways of laying one image over another: by keypoints, as whole pictures, and once more on larger pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagetools.features import mbr_sift
from imagetools.features.extract import Features, pyramid_of
from imagetools.matching import agreement, calibration, geometry
from imagetools.matching.calibration import Evidence
from imagetools.matching.geometry import Map

# A pair needs this many descriptors within this many of 128 bits: three in four unrelated pairs have not
_MIN_CLOSE_CODES: Final = 2
_MAX_CLOSE_BITS: Final = 20
# The largest keypoints of one image, compared before all others: half the work for the many pairs that end there
_FIRST_COMPARED: Final = 128
_MIN_MATCHES: Final = 4
_MIN_INLIERS: Final = 4
_MIN_WHOLE_CORRELATION: Final = 0.85
# Mean difference, of 255, below which two thumbnails show the same colours
_MAX_COLOUR_GAP: Final = 3.0
# A share of agreement from which no other map is tried
_SUFFICIENT_SHARE: Final = 0.9
# A pair this certain by its keypoints is not compared as whole pictures too
_CERTAIN_SCORE: Final = 0.99
# A pair less certain than this is compared again on larger pictures, where at least this share of it agrees
_DOUBTFUL_SCORE: Final = 0.9
_MIN_REFINED_SHARE: Final = 0.3

_Inliers = tuple[tuple[complex, complex], ...]
"""Points of the first image and of the second that agree with a map, best first."""


@dataclass(frozen=True)
class Alignment:
    """One way of laying the first image over the second, and what it shows.

    affine    from the first fitted image to the second, pixels
    evidence  what is scored
    points    the inliers, x + y·i in the first image and in the second, best first; none for whole pictures
    """

    affine: Map
    evidence: Evidence
    points: _Inliers

    @property
    def score(self) -> float:
        """The share of pairs with such evidence that are copies, 0 to 1."""
        return calibration.score_of(self.evidence)


def align(first: Features, second: Features) -> tuple[list[Alignment], str]:
    """Return the ways of laying the pair over each other that its score needs, and the first failed gate or ""."""
    by_keypoints, gate = align_keypoints(first, second)
    found = [by_keypoints] if by_keypoints else []
    if by_keypoints is None or by_keypoints.score < _CERTAIN_SCORE:
        found += _present(align_whole(first, second))
    if by_keypoints and max(alignment.score for alignment in found) < _DOUBTFUL_SCORE:
        found += _present(align_closer(by_keypoints, first, second))
    return found, gate


def align_every_way(first: Features, second: Features) -> list[Alignment]:
    """Return every way of laying the pair over each other, however certain one of them is."""
    by_keypoints, _ = align_keypoints(first, second)
    found = _present(by_keypoints) + _present(align_whole(first, second))
    return found + (_present(align_closer(by_keypoints, first, second)) if by_keypoints else [])


def _present(found: Alignment | None) -> list[Alignment]:
    return [found] if found else []


def align_keypoints(first: Features, second: Features) -> tuple[Alignment | None, str]:
    """Lay the pair over each other by matching keypoints; None and the gate where they do not match."""
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
    if consensus is None:
        return None, "no common geometry"
    affine, compared = _better_map(consensus.maps, first, second)
    evidence = Evidence(whole=False, inliers=len(consensus.points), agreement=compared)
    return Alignment(affine, evidence, consensus.points), ""


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


@dataclass(frozen=True)
class _KeypointConsensus:
    """An affine map, then the similarity nearest to it if there is one, and the inliers of both."""

    maps: Sequence[Map]
    points: _Inliers


def _consensus(first: Features, second: Features, matches: mbr_sift.Matches) -> _KeypointConsensus | None:
    """Return what most matches of one kind, plain or mirrored, agree on."""
    of_mirror = matches.query >= first.count
    kinds = [(mirrored, np.flatnonzero(of_mirror == mirrored)) for mirrored in (False, True)]
    best: _KeypointConsensus | None = None
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
) -> _KeypointConsensus | None:
    rows, columns = matches.query[kind], matches.index[kind]
    consensus = geometry.find_consensus(
        first.keypoints.at[rows],
        first.keypoints.frame[rows],
        second.keypoints.at[columns],
        second.keypoints.frame[columns],
    )
    if consensus is None:
        return None
    at, to = first.keypoints.at[rows[consensus.inliers]], second.keypoints.at[columns[consensus.inliers]]
    maps = [consensus.affine] if consensus.similarity is None else [consensus.affine, consensus.similarity]
    if mirrored:
        at = np.complex64(first.width - 1) - at.conj()
        maps = [geometry.compose(affine, geometry.mirror_map(first.width)) for affine in maps]
    return _KeypointConsensus(maps, tuple(zip(at.tolist(), to.tolist(), strict=True)))


def _better_map(maps: Sequence[Map], first: Features, second: Features) -> tuple[Map, agreement.Agreement]:
    """Return the map by which the pictures agree more, and their agreement; the first where that is sufficient."""
    affine = maps[0]
    compared = agreement.compare(affine, first.pyramid, second.pyramid)
    for other in maps[1:]:
        if compared.share < _SUFFICIENT_SHARE:
            by_other = agreement.compare(other, first.pyramid, second.pyramid)
            if by_other.mean > compared.mean:
                affine, compared = other, by_other
    return affine, compared


def align_closer(found: Alignment, first: Features, second: Features) -> Alignment | None:
    """Compare the larger pictures by the map as it is or, if that is better, refined on them.

    Shrinking blurs fine stripes, checks and dots, those of a crop and of its original differently, so that the two
    disagree although the map is right. And four inliers in one corner make a map that is right only there.
    """
    if found.evidence.agreement.share < _MIN_REFINED_SHARE:
        return None
    pyramids = pyramid_of(first.close), pyramid_of(second.close)
    into, back = (
        geometry.whole_picture_map(0, (one.width, one.height), one.close.shape[::-1]) for one in (second, first)
    )
    affine = geometry.compose(into, geometry.compose(found.affine, geometry.inverse(back)))
    compared = agreement.compare(affine, *pyramids)
    # where all agrees there is nothing to gain, and refining may slip by a stripe
    if _MIN_REFINED_SHARE <= compared.share < _SUFFICIENT_SHARE:
        refined = agreement.refine(affine, *pyramids)
        by_refined = agreement.compare(refined, *pyramids)
        if by_refined.mean > compared.mean:
            affine, compared = refined, by_refined
    evidence = replace(found.evidence, agreement=compared)
    return Alignment(geometry.compose(geometry.inverse(into), geometry.compose(affine, back)), evidence, found.points)


def align_whole(first: Features, second: Features) -> Alignment | None:
    """Lay the whole pictures over each other, turned and mirrored as their thumbnails correlate best.

    None where neither the grey thumbnails nor the colours are alike.
    """
    correlations = first.views @ second.views[0]
    view = int(correlations.argmax())
    alike = correlations[view] >= _MIN_WHOLE_CORRELATION
    # no turn brings colours nearer than their means
    if not alike and np.abs(first.shade - second.shade).mean() >= _MAX_COLOUR_GAP:
        return None
    colours = first.colours[:, ::-1] if view >= 4 else first.colours
    gap = float(np.abs(np.rot90(colours, view % 4) - second.colours).mean())
    if not alike and gap >= _MAX_COLOUR_GAP:
        return None
    affine = geometry.whole_picture_map(view, (first.width, first.height), (second.width, second.height))
    compared = agreement.compare(affine, first.pyramid, second.pyramid)
    evidence = Evidence(whole=True, inliers=0, agreement=compared, gap=gap)
    return Alignment(affine, evidence, ())
