"""Decide whether two images show the same picture, and say why."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
from PIL import Image

from imagetools.features.extract import Features
from imagetools.matching import appearance, bending, detail, edit_description, geometry, perspective
from imagetools.matching.alignment import Alignment, align, align_every_way
from imagetools.matching.animation import compare_frames
from imagetools.matching.calibration import Evidence
from imagetools.matching.closer_look import CloserLook, look_closer
from imagetools.matching.colours import ColourChange, compare_colours
from imagetools.matching.config import MatcherConfig
from imagetools.matching.detail import Box, Detail
from imagetools.matching.difference_boxes import merge_boxes
from imagetools.matching.motion import Motion
from imagetools.matching.registration import shrunk
from imagetools.matching.relation import Relation, relation_of
from imagetools.matching.sheets import align_sheets, marked_otherwise
from imagetools.opener import FileOpener

ImageOpener = Callable[[tuple[int, int]], Image.Image]
"""Opens an image again, as RGB. A JPEG may come at a half, a quarter or an eighth, never below the (width, height)."""

Openers = tuple[ImageOpener, ImageOpener] | None
"""Open candidate and neighbor; None where neither can be opened again."""

MAX_POINTS: Final = 64
MAX_REGIONS: Final = 64


@dataclass(frozen=True)
class Verification:
    """The verdict on a pair, with its evidence.

    score               0 to 1, the probability of a copy given the evidence, where half of all pairs are copies
    duplicate           score ≥ threshold, and no pair that the settings leave out
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
    relation            what the candidate shows of the neighbor, one of `relation.RELATIONS`; "" for unrelated pairs
    recoloured          how far colours changed, median CIE76 ΔE of the overlap or of a region of another hue; else 0
    moved               share of the overlap whose content moved, 0 to 1
    frames              that decided, and that points and regions lie on, by number in `Features.frames`: ours, theirs
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
    relation: Relation = ""
    recoloured: float = 0.0
    moved: float = 0.0
    frames: tuple[int, int] = (0, 0)


# Two drawn pictures with a score below this are not opened again, unless the whole pictures are alike
_MIN_DETAIL_SCORE: Final = 0.05
# The score after all detail was compared: at least, where it is the same, and at most, where it is not
_SAME_DETAIL_SCORE: Final = 0.99
_OTHER_DETAIL_SCORE: Final = 0.01
_RELATIONS: Final[dict[detail.Relation, Relation]] = {
    "same template, other content": "template",
    "both are blank": "blank",
}


def verify(candidate: Features, neighbor: Features, config: MatcherConfig, openers: Openers = None) -> Verification:
    """Decide whether two images show the same picture.

    Gates, in order: close codes, ratio test, geometry, minimum inliers, then the score of what the map shows. A pair
    of whole pictures whose thumbnails correlate is scored by those too. A doubtful pair, and one with a hole in what
    agrees, is compared on larger pictures, by an affine map, by one in perspective, and with a bend undone. The best
    score counts. Two drawn pictures, such as pages, charts and screens, are opened again where they may be one, and
    decided by their detail. Having no keypoints is a verdict, not an error. Symmetric: the pair is put in one order
    first. Safe to call from many threads.

    Frames of animations pass the gates one by one: all of two animations have to, and any one against a still.

    openers  open candidate and neighbor; without them drawn pictures are decided as photos are, and so are frames
             without a FileOpener. What they raise is passed on
    """
    if candidate.later or neighbor.later:
        return compare_frames(
            candidate,
            neighbor,
            lambda ours, theirs: _verify_pictures(
                candidate.frames[ours], neighbor.frames[theirs], config, _open_frames(openers, (ours, theirs))
            ),
        )
    return _verify_pictures(candidate, neighbor, config, openers)


def _open_frames(openers: Openers, numbers: tuple[int, int]) -> Openers:
    """Return what opens a frame of each; None where one can only open the first."""
    if openers is None:
        return None
    one, two = (
        opener.frame(number) if isinstance(opener, FileOpener) else None if number else opener
        for opener, number in zip(openers, numbers, strict=True)
    )
    return None if one is None or two is None else (one, two)


def _verify_pictures(candidate: Features, neighbor: Features, config: MatcherConfig, openers: Openers) -> Verification:
    first, second = _in_order(candidate, neighbor)
    alignments, gate = align(first, second)
    if not alignments and openers is not None:
        alignments = align_sheets(first, second)
    if not alignments:
        return _rejected(gate)
    best = max(alignments, key=lambda alignment: alignment.score)
    pair = _Pair(candidate, neighbor, best, from_candidate=first is candidate)
    score = 1.0 if appearance.is_equal(candidate, neighbor) else best.score
    return _verdict(pair, score, config, _compare_detail(pair, score, openers))


def collect_evidence(candidate: Features, neighbor: Features) -> tuple[Evidence, ...]:
    """Return the evidence that `verify` scores, one for each way of laying the pair over each other, or none."""
    return tuple(alignment.evidence for alignment in align_every_way(*_in_order(candidate, neighbor)))


def _in_order(candidate: Features, neighbor: Features) -> tuple[Features, Features]:
    first, second = sorted((candidate, neighbor), key=lambda features: features.key)
    return first, second


@dataclass(frozen=True)
class _Pair:
    """A pair and its best alignment, which starts from the candidate or from the neighbor."""

    candidate: Features
    neighbor: Features
    alignment: Alignment
    from_candidate: bool

    @property
    def in_order(self) -> tuple[Features, Features]:
        """The picture that the map starts from, and the other: no verdict depends on which of them came first."""
        return (self.candidate, self.neighbor) if self.from_candidate else (self.neighbor, self.candidate)

    @property
    def to_candidate(self) -> geometry.Map:
        """The map from neighbor to candidate."""
        return geometry.inverse(self.alignment.affine) if self.from_candidate else self.alignment.affine


def _compare_detail(pair: _Pair, score: float, openers: Openers) -> Detail | None:
    """Compare two drawn pictures, from candidate to neighbor, where their detail is resolved; None for other pairs."""
    candidate, neighbor = pair.candidate, pair.neighbor
    possible = pair.alignment.evidence.whole or score >= _MIN_DETAIL_SCORE
    if openers is None or not possible or not (candidate.drawn and neighbor.drawn):
        return None
    if marked_otherwise(candidate, neighbor):
        return Detail("same template, other content", 0.0, (), pair.alignment.affine)
    opened = [opener((detail.SIDE, detail.SIDE)) for opener in openers]
    greys = [np.asarray(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY), dtype=np.uint8) for image in opened]
    best = pair.alignment.affine if pair.alignment.flat is None else pair.alignment.flat
    if pair.alignment.bend is not None or len(best) == 3:
        # straightening takes memory for every pixel, and OpenCV refuses a side of 32,767
        greys = [shrunk(grey, detail.SIDE / max(grey.shape))[0] for grey in greys]
    # in one order, so that the verdict does not depend on which came first
    features = [candidate, neighbor]
    if not pair.from_candidate:
        greys.reverse()
        features.reverse()
    back, into = (
        geometry.whole_picture_map(0, (one.width, one.height), (grey.shape[1], grey.shape[0]))
        for one, grey in zip(features, greys, strict=True)
    )
    affine = geometry.compose(into, geometry.compose(best, geometry.inverse(back)))
    first = 255 - greys[0] if pair.alignment.negative else greys[0]
    first = bending.straightened(first, greys[1].shape[::-1], affine, pair.alignment.bend)
    if len(affine) == 3:
        first, affine = perspective.straightened(first, greys[1], affine), np.eye(2, 3)
    seen = detail.examine(first, greys[1], affine)
    return seen if pair.from_candidate else seen.turned()


def _compare_colours(pair: _Pair) -> ColourChange:
    affine = pair.alignment.affine if pair.alignment.flat is None else pair.alignment.flat
    return compare_colours(affine, *pair.in_order, negative=pair.alignment.negative)


def _change(pair: _Pair, closer: CloserLook) -> edit_description.Change:
    if not closer.added:
        return ""
    return "added" if (closer.added == "first") == pair.from_candidate else "removed"


def _left_out(colours: ColourChange, motion: Motion, config: MatcherConfig) -> Literal["recoloured", "moved", ""]:
    """Return why the settings leave a recognised pair out, or ""."""
    if colours.hue and not config.alert_recoloured:
        return "recoloured"
    return "moved" if motion.moved and not config.alert_moved else ""


def _decide(score: float, seen: Detail | None, *, equal: bool) -> tuple[float, str]:
    """Return the score after the detail was compared, and the gate of a pair that does not reach the threshold."""
    if seen is None or seen.relation in ("unclear", "one contains the other"):
        return score, "pictures disagree"
    if seen.relation == "same picture":
        return max(score, _SAME_DETAIL_SCORE), "pictures disagree"
    # blank pictures are one where they are equal
    same = seen.relation == "both are blank" and equal
    return score if same else min(score, _OTHER_DETAIL_SCORE), seen.relation


def _rejected(gate: str) -> Verification:
    return Verification(0.0, False, 0, 0.0, False, 1.0, 0.0, 0.0, 0.0, "", (), gate)


def _verdict(pair: _Pair, score: float, config: MatcherConfig, seen: Detail | None) -> Verification:
    score, gate = _decide(score, seen, equal=appearance.is_equal(pair.candidate, pair.neighbor))
    candidate, neighbor, alignment = pair.candidate, pair.neighbor, pair.alignment
    evidence, affine = alignment.evidence, pair.to_candidate
    sizes = (neighbor.width, neighbor.height), (candidate.width, candidate.height)
    shape = edit_description.shape_of(affine, *sizes)
    coverage_neighbor, coverage_candidate = geometry.covered_shares(affine, *sizes)
    edit, relation, colours = "", _RELATIONS.get(seen.relation, "") if seen else "", ColourChange()
    closer = CloserLook()
    duplicate = score >= config.threshold
    if duplicate:
        colours = _compare_colours(pair)
        closer = look_closer(pair.alignment, *pair.in_order, seen)
        if left_out := _left_out(colours, closer.motion, config):
            duplicate, gate, relation = False, left_out, left_out
    if duplicate:
        looks = appearance.compare_appearance(
            affine, evidence.agreement.hole, colours, candidate, neighbor, negative=alignment.negative
        )
        edit = edit_description.describe(
            shape,
            looks,
            coverage_candidate,
            coverage_neighbor,
            seen.relation if seen else None,
            motion=closer.motion,
            change=_change(pair, closer),
            sharpness=evidence.agreement.sharpness if pair.from_candidate else 1 / evidence.agreement.sharpness,
            bent=alignment.bend is not None,
        )
        flat = looks.flat, looks.around_flat
        relation = relation or relation_of(coverage_candidate, coverage_neighbor, shape.kept, flat=flat)
    regions = merge_boxes([(one.first, one.second) for one in seen.differences]) if seen else ()
    return Verification(
        score=score,
        duplicate=duplicate,
        inliers=evidence.inliers,
        agreement=evidence.agreement.share if seen is None else seen.agreement,
        mirrored=shape.mirrored,
        scale=shape.scale,
        angle=shape.angle,
        coverage_candidate=coverage_candidate,
        coverage_neighbor=coverage_neighbor,
        edit=edit,
        points=_normalised_points(pair),
        gate="" if duplicate else gate,
        regions=regions[:MAX_REGIONS],
        relation=relation,
        recoloured=colours.difference,
        moved=closer.motion.moved,
    )


def _normalised_points(pair: _Pair) -> tuple[tuple[float, float, float, float], ...]:
    points = np.array(pair.alignment.points[:MAX_POINTS], dtype=np.complex128).reshape(-1, 2)
    points = points if pair.from_candidate else points[:, ::-1]
    normalised = np.stack(
        [
            (points[:, 0].real + 0.5) / pair.candidate.width,
            (points[:, 0].imag + 0.5) / pair.candidate.height,
            (points[:, 1].real + 0.5) / pair.neighbor.width,
            (points[:, 1].imag + 0.5) / pair.neighbor.height,
        ],
        axis=1,
    )
    return tuple((x, y, x2, y2) for x, y, x2, y2 in np.clip(normalised, 0.0, 1.0).tolist())
