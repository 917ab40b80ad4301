"""Ways of laying one image over another: by keypoints, as whole pictures, and once more on larger pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from imagetools.features.extract import Features, pyramid_of
from imagetools.matching import agreement, bending, calibration, geometry, perspective
from imagetools.matching.bending import Bend
from imagetools.matching.calibration import Evidence
from imagetools.matching.geometry import Map
from imagetools.matching.keypoints import Inliers, KeypointConsensus, match_keypoints
from imagetools.matching.overlap import Overlap, cut_out

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
# or where this many keypoints match: a photograph of a print keeps them, and little agrees by an affine map
_MANY_INLIERS: Final = 20
# A hole of this share of the overlap is looked at closer, to tell what lies on a copy from what fills a frame
_MIN_HOLE: Final = 0.1
_CLOSE_SIDE: Final = 256
# Thumbnails whose longer side has fewer pixels show no more, however large they are drawn
_MIN_CLOSE_SIDE: Final = 64
# A thumbnail's cell counts where this much of it comes from inside the other picture
_INSIDE: Final = 0.99
# A map in perspective has to show this much more of mean correlation than an affine one
_MIN_PERSPECTIVE_GAIN: Final = 0.02
# and may leave a hole of this share at most: two things on one floor share the floor, in perspective
_MAX_PERSPECTIVE_HOLE: Final = 0.2
# Mean correlation by the homography of the keypoints alone: of copies .53 and more, of look-alikes .53 and less
_MIN_RAW_MEAN: Final = 0.45
# A bend has to show this much more of mean correlation than a map alone, and may leave a hole of this share at most
_MIN_BEND_GAIN: Final = 0.1
_MAX_BENT_HOLE: Final = 0.1
# and this much has to agree exactly: more where both columns and rows move, since that could follow a moved subject
_MIN_BENT_STRICT: Final = 0.45
_STRICTER: Final = 10.0
# Waved copies have 30 inliers and more in 19 of 20; look-alikes 26 at most, and 8 at the median
_MIN_BENT_INLIERS: Final = 20
# Whole pictures that agree less are no crops of each other, unless nothing of them is textured
_MIN_CROPPED_MEAN: Final = 0.45


@dataclass(frozen=True)
class Alignment:
    """One way of laying the first image over the second, and what it shows.

    affine    from the first fitted image to the second, pixels
    evidence  what is scored
    points    the inliers, x + y·i in the first image and in the second, best first; none for whole pictures
    flat      the map in perspective, where one lays the pictures over each other better; `affine` is nearest to it
    negative  one picture is the other with its brightness inverted
    bend      of the second picture, where one is left to undo after the map
    """

    affine: Map
    evidence: Evidence
    points: Inliers
    flat: Map | None = None
    negative: bool = False
    bend: Bend | None = None

    @property
    def score(self) -> float:
        """The share of pairs with such evidence that are copies, 0 to 1."""
        return calibration.score_of(self.evidence)


def align(first: Features, second: Features) -> tuple[list[Alignment], str]:
    """Return the ways of laying the pair over each other that its score needs, and the first failed gate or ""."""
    matched, gate = match_keypoints(first, second)
    by_keypoints = _align_matched(matched, first, second) if matched else None
    found = [by_keypoints] if by_keypoints else []
    if by_keypoints is None or by_keypoints.score < _CERTAIN_SCORE:
        whole = align_whole(first, second)
        found += _present(whole)
        if whole and by_keypoints is None and whole.score < _DOUBTFUL_SCORE:
            found += _present(align_cropped(whole, first, second))
    if by_keypoints is None or matched is None or not _worth_a_closer_look(by_keypoints, first, second):
        return found, gate
    hole = by_keypoints.evidence.agreement.hole >= _MIN_HOLE
    if hole or max(alignment.score for alignment in found) < _DOUBTFUL_SCORE:
        closer = align_closer(by_keypoints, first, second)
        # what fills a hole shows at close range alone; without one, blur may make a copy disagree there
        found = [*found[1:], closer] if hole else [*found, closer]
        if max(alignment.score for alignment in found) < _DOUBTFUL_SCORE:
            flat = align_in_perspective(matched, closer, first, second)
            found += _present(flat)
            if (flat or closer).score < _DOUBTFUL_SCORE:
                found += _present(align_bent(flat or closer, first, second))
    return found, gate


def align_every_way(first: Features, second: Features) -> list[Alignment]:
    """Return every way of laying the pair over each other by a map alone, however certain one of them is."""
    matched, _ = match_keypoints(first, second)
    by_keypoints = _align_matched(matched, first, second) if matched else None
    whole = align_whole(first, second)
    found = _present(by_keypoints) + _present(whole)
    if whole and not by_keypoints:
        found += _present(align_cropped(whole, first, second))
    if by_keypoints and matched and _worth_a_closer_look(by_keypoints, first, second):
        closer = align_closer(by_keypoints, first, second)
        found += [closer, *_present(align_in_perspective(matched, closer, first, second))]
    return found


def _worth_a_closer_look(found: Alignment, first: Features, second: Features) -> bool:
    evidence = found.evidence
    if min(max(first.original), max(second.original)) < _MIN_CLOSE_SIDE:
        return False
    return evidence.agreement.share >= _MIN_REFINED_SHARE or evidence.inliers >= _MANY_INLIERS


def _present(found: Alignment | None) -> list[Alignment]:
    return [found] if found else []


def _align_matched(matched: KeypointConsensus, first: Features, second: Features) -> Alignment:
    affine, compared = _better_map(matched.maps, first, second)
    evidence = Evidence(whole=False, inliers=len(matched.points), agreement=compared)
    return Alignment(affine, evidence, matched.points)


def _better_map(maps: Sequence[Map], first: Features, second: Features) -> tuple[Map, agreement.Agreement]:
    """Return the map by which the pictures agree more, and their agreement; the first where that is sufficient."""
    affine = maps[0]
    compared = agreement.compare(affine, first.pyramid, second.pyramid)
    for other in maps[1:]:
        # where all but a hole agrees exactly, the map is right
        if compared.share < _SUFFICIENT_SHARE and not compared.exact:
            by_other = agreement.compare(other, first.pyramid, second.pyramid)
            if by_other.mean > compared.mean:
                affine, compared = other, by_other
    return affine, compared


def align_closer(found: Alignment, first: Features, second: Features) -> Alignment:
    """Compare the larger pictures by the map as it is or, if that is better, refined on them.

    Shrinking blurs fine stripes, checks and dots, those of a crop and of its original differently, so that the two
    disagree although the map is right. And four inliers in one corner make a map that is right only there.
    """
    pyramids = pyramid_of(first.close), pyramid_of(second.close)
    back, into = _into_close(first), _into_close(second)
    affine = geometry.compose(into, geometry.compose(found.affine, geometry.inverse(back)))
    compared = agreement.compare(affine, *pyramids, _CLOSE_SIDE)
    # where all agrees there is nothing to gain, and refining may slip by a stripe; where all but a hole agrees exactly,
    # the map is right
    if _MIN_REFINED_SHARE <= compared.share < _SUFFICIENT_SHARE and not compared.exact:
        refined = agreement.refine(affine, *pyramids)
        by_refined = agreement.compare(refined, *pyramids, _CLOSE_SIDE)
        if by_refined.mean > compared.mean:
            affine, compared = refined, by_refined
    evidence = replace(found.evidence, agreement=compared, closer=True)
    return Alignment(geometry.compose(geometry.inverse(into), geometry.compose(affine, back)), evidence, found.points)


def align_in_perspective(
    matched: KeypointConsensus, affine: Alignment, first: Features, second: Features
) -> Alignment | None:
    """Compare the larger pictures by a map in perspective, refined on them; None where an affine one is as good."""
    found = perspective.find_homography(matched.at, matched.to, (first.width, first.height))
    if found is None:
        return None
    homography, rows = found
    pyramids = pyramid_of(first.close), pyramid_of(second.close)
    back, into = _into_close(first), _into_close(second)
    flat = geometry.compose(into, geometry.compose(homography, geometry.inverse(back)))
    compared = agreement.compare(flat, *pyramids, _CLOSE_SIDE)
    # refining is the most of the work, and look-alikes are not worth it
    if compared.mean < max(_MIN_RAW_MEAN, affine.evidence.agreement.mean):
        return None
    refined = perspective.refine(flat, *pyramids)
    by_refined = agreement.compare(refined, *pyramids, _CLOSE_SIDE)
    if by_refined.mean > compared.mean:
        flat, compared = refined, by_refined
    gain = compared.mean - affine.evidence.agreement.mean
    if gain < _MIN_PERSPECTIVE_GAIN or compared.hole >= _MAX_PERSPECTIVE_HOLE:
        return None
    flat = geometry.compose(geometry.inverse(into), geometry.compose(flat, back))
    points = tuple(zip(matched.at[rows].tolist(), matched.to[rows].tolist(), strict=True))
    evidence = replace(affine.evidence, inliers=len(rows), agreement=compared)
    return Alignment(geometry.affine_at_middle(flat, (first.width, first.height)), evidence, points, flat)


def cut_out_close(found: Alignment, first: Features, second: Features, side: int) -> Overlap | None:
    """Return the overlap of the larger pictures, pixels of its longer side at most `side`."""
    affine = found.affine if found.flat is None else found.flat
    affine = geometry.compose(_into_close(second), geometry.compose(affine, geometry.inverse(_into_close(first))))
    source = bending.straightened(first.close, second.close.shape[::-1], affine, found.bend)
    return cut_out(affine, pyramid_of(source), pyramid_of(second.close), side)


def align_bent(found: Alignment, first: Features, second: Features) -> Alignment | None:
    """Compare the larger pictures with the bend undone that the map leaves; None where that shows little more."""
    if found.evidence.inliers < _MIN_BENT_INLIERS:
        return None
    back, into = _into_close(first), _into_close(second)
    flat = found.affine if found.flat is None else found.flat
    closer = geometry.compose(into, geometry.compose(flat, geometry.inverse(back)))
    bend = bending.find_bend(first.close, second.close, closer)
    if bend is None:
        return None
    straight = bending.straightened(first.close, second.close.shape[::-1], closer, bend)
    compared = agreement.compare(closer, pyramid_of(straight), pyramid_of(second.close), _CLOSE_SIDE)
    gain = compared.mean - found.evidence.agreement.mean
    strict = _MIN_BENT_STRICT + _STRICTER * bend.both
    if gain < _MIN_BEND_GAIN or compared.hole >= _MAX_BENT_HOLE or compared.strict < strict:
        return None
    return replace(found, evidence=replace(found.evidence, agreement=compared), bend=bend)


def _into_close(features: Features) -> Map:
    """Return the map from the fitted image to the larger one."""
    return geometry.whole_picture_map(0, (features.width, features.height), features.close.shape[::-1])


def align_whole(first: Features, second: Features) -> Alignment | None:
    """Lay the whole pictures over each other, turned and mirrored as their thumbnails correlate best.

    A negative correlates negatively, and is compared with the second picture inverted. None where neither the grey
    thumbnails nor the colours are alike.
    """
    correlations = first.views @ second.views[0]
    negative = correlations.max() < _MIN_WHOLE_CORRELATION and correlations.min() <= -_MIN_WHOLE_CORRELATION
    if negative:
        correlations = -correlations
    view = int(correlations.argmax())
    alike = correlations[view] >= _MIN_WHOLE_CORRELATION
    # no turn brings colours nearer than their means
    if not alike and np.abs(first.shade - second.shade).mean() >= _MAX_COLOUR_GAP:
        return None
    colours = first.colours[:, ::-1] if view >= 4 else first.colours
    others = 255 - second.colours if negative else second.colours
    gap = float(np.abs(np.rot90(colours, view % 4) - others).mean())
    if not alike and gap >= _MAX_COLOUR_GAP:
        return None
    affine = geometry.whole_picture_map(view, (first.width, first.height), (second.width, second.height))
    target = tuple(255 - level for level in second.pyramid) if negative else second.pyramid
    compared = agreement.compare(affine, first.pyramid, target)
    evidence = Evidence(whole=True, inliers=0, agreement=compared, gap=gap)
    return Alignment(affine, evidence, (), negative=negative)


def align_cropped(whole: Alignment, first: Features, second: Features) -> Alignment | None:
    """Move the map between two plain pictures to where they fit best, as where one is a crop of the other.

    None where the whole pictures fit as well, or far too little, or one is the negative of the other.
    """
    compared = whole.evidence.agreement
    if whole.negative or (compared.textured and compared.mean < _MIN_CROPPED_MEAN):
        return None
    affine = agreement.refine(whole.affine, first.pyramid, second.pyramid)
    if affine is whole.affine or not geometry.is_plausible(_unmirrored(affine, first.width)):
        return None
    compared = agreement.compare(affine, first.pyramid, second.pyramid)
    gap = _colour_gap(affine, first, second)
    if gap is None or compared.correlation < whole.evidence.agreement.correlation:
        return None
    return Alignment(affine, Evidence(whole=True, inliers=0, agreement=compared, gap=gap), ())


def _unmirrored(affine: Map, width: int) -> Map:
    return affine if geometry.determinant(affine) > 0 else geometry.compose(affine, geometry.mirror_map(width))


def _colour_gap(affine: Map, first: Features, second: Features) -> float | None:
    """Return the mean colour difference of the thumbnails by a map between fitted images; None without overlap."""
    side = first.colours.shape[0]
    into = geometry.whole_picture_map(0, (second.width, second.height), (side, side))
    back = geometry.whole_picture_map(0, (first.width, first.height), (side, side))
    small = geometry.compose(into, geometry.compose(affine, geometry.inverse(back)))
    moved = cv2.warpAffine(first.colours, small, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones((side, side), np.float32), small, (side, side), flags=cv2.INTER_LINEAR) > _INSIDE
    return float(np.abs(moved - second.colours)[inside].mean()) if inside.any() else None
