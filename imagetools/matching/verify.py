"""Decide whether two images show the same picture, and say why."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagetools.features import mbr_sift
from imagetools.features.extract import THUMB_SIDE, Features, extract_features, pyramid_of
from imagetools.matching import agreement, calibration, detail, edit_description, geometry
from imagetools.matching.calibration import Evidence
from imagetools.matching.config import MatcherConfig
from imagetools.matching.detail import Box, Detail
from imagetools.matching.geometry import Map

__all__ = ["Evidence", "Features", "Look", "MatcherConfig", "Verification", "extract", "verify", "weigh"]

Look = Callable[[tuple[int, int]], Image.Image]
"""Opens an image again, RGB: whole, or at a half or less of its size, but not below the box of (width, height)."""

MOST_POINTS: Final = 64
MOST_REGIONS: Final = 64


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
    regions             up to 64 boxes that show something else, in the candidate and in the neighbor, largest first
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
    regions: tuple[tuple[Box, Box], ...] = ()


# A pair needs this many descriptors within this many of 128 bits: three in four unrelated pairs have not
_COARSE_GATE: Final = 2
_COARSE_NEAR: Final = 20
# The largest keypoints of one image, asked before all others: half the work for the many pairs that end there
_ASKED_FIRST: Final = 128
_MIN_MATCHES: Final = 4
_MIN_INLIERS: Final = 4
_WHOLE_CORRELATION: Final = 0.85
# Mean difference, of 255, below which two thumbnails show the same colours
_SAME_COLOURS: Final = 3.0
# Mean difference of a pixel's channels, of 255, below which a picture counts as without colour
_GREY: Final = 3.0
# Shift of a channel, of 255, above which a copy counts as recoloured; JPEG at quality 15 shifts by 2
_RECOLOURED: Final = 6.0
# A share of agreement from which no other map is tried
_WELL: Final = 0.9
# A pair this certain by its keypoints is not looked at as whole pictures too
_CERTAIN: Final = 0.99
# A pair less certain than this is looked at once more, closer, where at least this share of it agrees
_DOUBTED: Final = 0.9
_WORTHWHILE: Final = 0.3
# A pair of drawn pictures with a score below this is not opened again, unless the whole pictures look alike
_FAINTLY: Final = 0.05
# What is sure after all detail was compared
_SEEN_SAME: Final = 0.99
_SEEN_OTHER: Final = 0.01


_Agreed = tuple[tuple[Map, ...], tuple[tuple[complex, complex], ...]]
"""An affine map, where there is one the similarity nearest to it, and the points that agree with them, best first."""


@dataclass(frozen=True)
class _Laid:
    """One way of laying the first image over the second, and what it shows."""

    affine: Map
    evidence: Evidence
    points: tuple[tuple[complex, complex], ...]

    @property
    def score(self) -> float:
        return calibration.score_of(self.evidence)


def extract(image: Image.Image, config: MatcherConfig) -> Features:
    """Compute what `verify` needs of an RGB image, of any size from 1 × 1."""
    return extract_features(image, (config.width, config.height), config.max_keypoints, config.contrast)


def verify(
    candidate: Features, neighbor: Features, config: MatcherConfig, looks: tuple[Look, Look] | None = None
) -> Verification:
    """Decide whether two images show the same picture.

    Gates, in order: close codes, ratio test, geometry, minimum inliers, then the score of what the map shows. A pair
    of whole pictures whose thumbnails correlate is scored by those too, and one in doubt, some of which agrees, once
    more, closer; the best score counts. Two drawn pictures, such as pages, charts and screens, are opened again where
    they may be one, and decided by their detail. Having no keypoints is a verdict, not an error. Symmetric: the pair
    is put in one order first. Safe to call from many threads.

    looks  open candidate and neighbor; without them drawn pictures are decided as photos are. What they raise is
           passed on
    """
    first, second = sorted((candidate, neighbor), key=lambda features: features.key)
    ways, gate = _ways(first, second)
    if not ways:
        return _rejected(gate)
    best = max(ways, key=lambda laid: laid.score)
    equal = candidate.key == neighbor.key and candidate.original == neighbor.original
    score = 1.0 if equal else best.score
    from_candidate = first is candidate
    seen = _seen(best, score, candidate, neighbor, looks, from_candidate=from_candidate)
    return _verdict(best, score, candidate, neighbor, config, seen, from_candidate=from_candidate)


def weigh(candidate: Features, neighbor: Features) -> tuple[Evidence, ...]:
    """Return the evidence that `verify` scores, one for each way of laying the pair over each other, or none."""
    first, second = sorted((candidate, neighbor), key=lambda features: features.key)
    return tuple(laid.evidence for laid in _ways(first, second, certain=None)[0])


def _ways(first: Features, second: Features, certain: float | None = _CERTAIN) -> tuple[list[_Laid], str]:
    """Return the ways of laying the pair over each other; certain: the score from which one is enough."""
    found, gate = _by_keypoints(first, second)
    ways = [found] if found is not None else []
    if found is None or certain is None or found.score < certain:
        whole = _by_whole(first, second)
        ways += [whole] if whole is not None else []
    if found is not None and (certain is None or max(laid.score for laid in ways) < _DOUBTED):
        closer = _closer(found, first, second)
        ways += [closer] if closer is not None else []
    return ways, gate


def _by_keypoints(first: Features, second: Features) -> tuple[_Laid | None, str]:
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
    agreed = _agreed(first, second, matches)
    if agreed is None:
        return None, "no common geometry"
    maps, points = agreed
    affine, compared = _better(maps, first, second)
    evidence = Evidence(whole=False, inliers=len(points), agreement=compared)
    return _Laid(affine, evidence, points), ""


def _coarse_distances(first: Features, codes: mbr_sift.Bits) -> mbr_sift.Bits | None:
    """Return the distances of all codes of the first image, or None where the largest are near to nothing."""
    mirrored = first.codes.coarse[first.count :]
    asked = min(_ASKED_FIRST, first.count)
    halves = [mbr_sift.coarse_distances(np.concatenate([first.codes.coarse[:asked], mirrored[:asked]]), codes)]
    if np.count_nonzero(halves[0].min(axis=1) <= _COARSE_NEAR) < _COARSE_GATE:
        return None
    if asked == first.count:
        return halves[0]
    rest = np.concatenate([first.codes.coarse[asked : first.count], mirrored[asked:]])
    halves.append(mbr_sift.coarse_distances(rest, codes))
    left = first.count - asked
    return np.concatenate([halves[0][:asked], halves[1][:left], halves[0][asked:], halves[1][left:]])


def _agreed(first: Features, second: Features, matches: mbr_sift.Matches) -> _Agreed | None:
    """Return what most matches of one kind, plain or mirrored, agree on."""
    of_mirror = matches.query >= first.count
    kinds = [(mirrored, np.flatnonzero(of_mirror == mirrored)) for mirrored in (False, True)]
    best: _Agreed | None = None
    for mirrored, kind in sorted(kinds, key=lambda kind: -len(kind[1])):
        if len(kind) < max(_MIN_INLIERS, len(best[1]) + 1 if best else 0):
            continue
        found = _by_kind(first, second, matches, kind, mirrored=mirrored)
        if found and len(found[1]) >= max(_MIN_INLIERS, len(best[1]) + 1 if best else 0):
            best = found
    return best


def _by_kind(
    first: Features, second: Features, matches: mbr_sift.Matches, kind: NDArray[np.intp], *, mirrored: bool
) -> _Agreed | None:
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
    return tuple(maps), tuple(zip(at.tolist(), to.tolist(), strict=True))


def _better(maps: tuple[Map, ...], first: Features, second: Features) -> tuple[Map, agreement.Agreement]:
    """Return the map that the pictures agree by more, and their agreement; the first where that is well enough."""
    affine = maps[0]
    compared = agreement.compare(affine, first.pyramid, second.pyramid)
    for other in maps[1:]:
        if compared.share < _WELL:
            second_look = agreement.compare(other, first.pyramid, second.pyramid)
            if second_look.mean > compared.mean:
                affine, compared = other, second_look
    return affine, compared


def _closer(found: _Laid, first: Features, second: Features) -> _Laid | None:
    """Compare the pictures where they show more, by the map as it is or, if that is better, refined on them.

    Fine stripes, checks and dots are lost when small: a copy's crop and the original lose them differently, so that
    they disagree although the map is right. And four inliers in one corner make a map that is right only there.
    """
    if found.evidence.agreement.share < _WORTHWHILE:
        return None
    pyramids = pyramid_of(first.close), pyramid_of(second.close)
    into, back = (
        geometry.whole_picture_map(0, (one.width, one.height), one.close.shape[::-1]) for one in (second, first)
    )
    affine = geometry.compose(into, geometry.compose(found.affine, geometry.inverse(back)))
    compared = agreement.compare(affine, *pyramids)
    # where all agrees there is nothing to gain, and refining may slip by a stripe
    if _WORTHWHILE <= compared.share < _WELL:
        refined = agreement.refine(affine, *pyramids)
        second_look = agreement.compare(refined, *pyramids)
        if second_look.mean > compared.mean:
            affine, compared = refined, second_look
    evidence = replace(found.evidence, agreement=compared)
    return _Laid(geometry.compose(geometry.inverse(into), geometry.compose(affine, back)), evidence, found.points)


def _by_whole(first: Features, second: Features) -> _Laid | None:
    likeness = first.views @ second.views[0]
    view = int(likeness.argmax())
    alike = likeness[view] >= _WHOLE_CORRELATION
    # no turn brings colours nearer than their means
    if not alike and np.abs(first.shade - second.shade).mean() >= _SAME_COLOURS:
        return None
    colours = first.colours[:, ::-1] if view >= 4 else first.colours
    gap = float(np.abs(np.rot90(colours, view % 4) - second.colours).mean())
    if not alike and gap >= _SAME_COLOURS:
        return None
    affine = geometry.whole_picture_map(view, (first.width, first.height), (second.width, second.height))
    compared = agreement.compare(affine, first.pyramid, second.pyramid)
    evidence = Evidence(whole=True, inliers=0, agreement=compared, gap=gap)
    return _Laid(affine, evidence, ())


def _seen(
    laid: _Laid,
    score: float,
    candidate: Features,
    neighbor: Features,
    looks: tuple[Look, Look] | None,
    *,
    from_candidate: bool,
) -> Detail | None:
    """Compare two drawn pictures, from candidate to neighbor, where their detail is resolved; None for other pairs."""
    if looks is None or not (laid.evidence.whole or score >= _FAINTLY) or not (candidate.drawn and neighbor.drawn):
        return None
    opened = [look((detail.SIDE, detail.SIDE)) for look in looks]
    affine = laid.affine if from_candidate else geometry.inverse(laid.affine)
    away, into = (
        geometry.whole_picture_map(0, (features.width, features.height), image.size)
        for features, image in zip((candidate, neighbor), opened, strict=True)
    )
    affine = geometry.compose(into, geometry.compose(affine, geometry.inverse(away)))
    # in one order, so that the verdict does not depend on which came first
    greys = [np.asarray(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY), dtype=np.uint8) for image in opened]
    if from_candidate:
        return detail.examine(greys[0], greys[1], affine)
    return detail.examine(greys[1], greys[0], geometry.inverse(affine)).turned()


def _decided(score: float, seen: Detail | None) -> tuple[float, str]:
    """Return the score after what was seen of the detail, and why the pair is no duplicate."""
    if seen is None or seen.relation in ("unclear", "one contains the other"):
        return score, "pictures disagree"
    if seen.relation == "same picture":
        return max(score, _SEEN_SAME), "pictures disagree"
    # blank pictures are one where they are equal
    equal = seen.relation == "both are blank" and score == 1
    return score if equal else min(score, _SEEN_OTHER), seen.relation


def _rejected(gate: str) -> Verification:
    return Verification(0.0, False, 0, 0.0, False, 1.0, 0.0, 0.0, 0.0, "", (), gate)


def _verdict(
    laid: _Laid,
    score: float,
    candidate: Features,
    neighbor: Features,
    config: MatcherConfig,
    seen: Detail | None,
    *,
    from_candidate: bool,
) -> Verification:
    score, gate = _decided(score, seen)
    affine = geometry.inverse(laid.affine) if from_candidate else laid.affine
    sizes = (neighbor.width, neighbor.height), (candidate.width, candidate.height)
    shape = edit_description.shape_of(affine, *sizes)
    coverage_neighbor, coverage_candidate = geometry.covered_shares(affine, *sizes)
    duplicate = score >= config.threshold
    edit = ""
    if duplicate:
        looks = _looks(affine, laid.evidence.agreement.hole, candidate, neighbor)
        edit = edit_description.describe(
            shape, looks, coverage_candidate, coverage_neighbor, seen.relation if seen else None
        )
    regions = tuple((one.first, one.second) for one in seen.differences[:MOST_REGIONS]) if seen else ()
    return Verification(
        score=score,
        duplicate=duplicate,
        inliers=laid.evidence.inliers,
        agreement=laid.evidence.agreement.share if seen is None else seen.agreement,
        mirrored=shape.mirrored,
        scale=shape.scale,
        angle=shape.angle,
        coverage_candidate=coverage_candidate,
        coverage_neighbor=coverage_neighbor,
        edit=edit,
        points=_points(laid, candidate, neighbor, from_candidate=from_candidate),
        gate="" if duplicate else gate,
        regions=regions,
    )


def _looks(affine: Map, hole: float, candidate: Features, neighbor: Features) -> edit_description.Looks:
    """Compare the thumbnails where the map, from neighbor to candidate, lays them over each other."""
    cells = (np.arange(THUMB_SIDE) + 0.5) / THUMB_SIDE
    at = (cells * candidate.width - 0.5) + 1j * (cells[:, np.newaxis] * candidate.height - 0.5)
    from_at = geometry.apply(geometry.inverse(affine), at)
    column = np.floor((from_at.real + 0.5) * THUMB_SIDE / neighbor.width).astype(np.intp)
    row = np.floor((from_at.imag + 0.5) * THUMB_SIDE / neighbor.height).astype(np.intp)
    inside = (np.minimum(row, column) >= 0) & (np.maximum(row, column) < THUMB_SIDE)
    # a cell on the border shows both sides of it
    well_inside, outside = (
        cv2.erode(side.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for side in (inside, ~inside)
    )
    ours, theirs = candidate.colours[well_inside], neighbor.colours[row[well_inside], column[well_inside]]
    around = candidate.colours[outside]
    return edit_description.Looks(
        covered=hole,
        grey=_is_grey(ours) != _is_grey(theirs),
        recoloured=_colours_differ(ours, theirs),
        flat=float((np.abs(around - np.median(around, axis=0)).max(axis=1) < 6).mean()) if len(around) else 0.0,
        shrunk=max(candidate.original) / max(neighbor.original),
    )


def _is_grey(colours: NDArray[np.float32]) -> bool:
    return bool(len(colours)) and float(np.ptp(colours, axis=1).mean()) < _GREY


def _colours_differ(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> bool:
    """Tell whether most of the overlap has changed its colours alike, and not only what lies on it."""
    if not len(ours):
        return False
    shift = np.abs(np.median(ours - theirs, axis=0)).max()
    return bool(max(shift, np.median(np.abs(ours - theirs).max(axis=1)) / 2) > _RECOLOURED)


def _points(
    laid: _Laid, candidate: Features, neighbor: Features, *, from_candidate: bool
) -> tuple[tuple[float, float, float, float], ...]:
    points = np.array(laid.points[:MOST_POINTS], dtype=np.complex128).reshape(-1, 2)
    if not from_candidate:
        points = points[:, ::-1]
    normalised = np.stack(
        [
            (points[:, 0].real + 0.5) / candidate.width,
            (points[:, 0].imag + 0.5) / candidate.height,
            (points[:, 1].real + 0.5) / neighbor.width,
            (points[:, 1].imag + 0.5) / neighbor.height,
        ],
        axis=1,
    )
    return tuple((x, y, x2, y2) for x, y, x2, y2 in np.clip(normalised, 0.0, 1.0).tolist())
