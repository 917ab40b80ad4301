"""Describe in plain words what was done to a copy."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from imagetools.matching.appearance import Appearance
from imagetools.matching.detail import Relation
from imagetools.matching.geometry import Map, determinant, share_kept_by_turn, stretches
from imagetools.matching.motion import NOTHING_MOVED, Motion

# A turn, a stretch or a cut below these is an error of fitting the map, not an edit. Of 40 photos in 17 edits, maps are
# off by up to .9°, 1.035 and .979; of the samples, a blurred one by .97
_TURN_SLACK = 1.5
_STRETCH_SLACK = 1.06
_MIN_WHOLE = 0.96
# Smaller holes are lost fine texture
_MIN_COVERED = 0.06
# Share of blocks that disagree at close range: of copies with nothing on them up to .004, with a sticker on a hundredth
# of the picture .013 at the median
_MAX_SAME = 0.008
# A blur of a hundredth of the longer side leaves a tenth of the energy of edges or less; of 40 photos in 17 edits only
# a quarter of the size takes as much, and what lies on a copy adds as much
_MAX_SHARPNESS_RATIO = 6.0
# Beyond this many times the size a percentage says little
_MAX_SCALE = 20


Change = Literal["added", "removed", ""]
"""What became of the neighbor where the candidate differs from it: something lies on one of them."""


@dataclass(frozen=True)
class Shape:
    """Geometry of a map from neighbor to candidate.

    mirrored  left and right are exchanged before the turn
    scale     growth of lengths, each image measured in its own longer side; 1 where the whole picture is kept
    angle     degrees counter-clockwise, (-180, 180]
    stretch   how much more one direction grows than the other, 1 or more
    kept      share of the picture that stays in a frame of its size when it is turned by the angle, 0 to 1
    """

    mirrored: bool
    scale: float
    angle: float
    stretch: float
    kept: float = 1.0


def shape_of(affine: Map, neighbor: tuple[int, int], candidate: tuple[int, int]) -> Shape:
    """Return the shape of a map between fitted images, given their (width, height)."""
    linear = affine[:, :2]
    mirrored = determinant(affine) < 0
    if mirrored:
        linear = linear @ np.diag([-1.0, 1.0])
    # y points down, so that a counter-clockwise turn has a positive upper right entry
    angle = math.degrees(math.atan2(linear[0, 1] - linear[1, 0], linear[0, 0] + linear[1, 1]))
    larger, smaller = stretches(affine)
    scale = math.sqrt(larger * smaller) * max(neighbor) / max(candidate)
    angle = 180.0 if angle <= -179.995 else angle
    kept = share_kept_by_turn(angle, neighbor)
    return Shape(mirrored, scale, angle, larger / max(smaller, 1e-9), kept)


def describe(
    shape: Shape,
    appearance: Appearance,
    coverage_candidate: float,
    coverage_neighbor: float,
    relation: Relation | None = None,
    motion: Motion = NOTHING_MOVED,
    sharpness: float = 1.0,
    change: Change = "",
    *,
    bent: bool = False,
) -> str:
    """Say what was done to the neighbor to get the candidate.

    coverage_candidate, coverage_neighbor  share of each area that the other covers, 0 to 1
    relation                               that of their detail, where it was compared
    motion                                 what differs at close range
    sharpness                              energy of edges in the candidate over that in the neighbor
    change                                 whether something was added to the neighbor, or removed from it
    bent                                   rows or columns of one are displaced
    """
    if relation == "both are blank":
        return relation
    if appearance.equal:
        return "identical pixels"
    words = ["same scene, moved"] if motion.moved else []
    words += _turned(shape)
    whole = _MIN_WHOLE * shape.kept
    if coverage_neighbor < whole:
        words.append(f"cropped to {round(coverage_neighbor * 100)} %")
    if coverage_candidate < whole and coverage_neighbor >= 0.5:
        words.append("padded" if appearance.flat > 0.9 else "pasted into a larger picture")
    elif coverage_candidate < whole:
        words.append("partly pasted into another picture")
    # what lies on a copy has edges of its own
    unequal = appearance.covered <= _MIN_COVERED and not 1 / _MAX_SHARPNESS_RATIO <= sharpness <= _MAX_SHARPNESS_RATIO
    # no addition are the corners of a turned picture, the detail that a blur has left in one, and other greys
    turned = abs((shape.angle + 45) % 90 - 45) >= _TURN_SLACK
    if turned or unequal or appearance.colours.hue:
        change = ""
    words += _differing(appearance, relation, motion, change, unequal=unequal)
    if shape.stretch > _STRETCH_SLACK:
        words.append("stretched")
    if bent:
        words.append("bent")
    if appearance.negative:
        words.append("inverted")
    words += _coloured(appearance)
    all_of_both = min(coverage_candidate, coverage_neighbor) >= whole
    if all_of_both and not 0.95 < appearance.shrunk < 1.05:
        words.append(_resized(appearance.shrunk))
    elif unequal:
        words.append("blurred" if sharpness < 1 else "sharpened")
    return ", ".join(words) or "re-encoded"


def _differing(
    appearance: Appearance, relation: Relation | None, motion: Motion, change: Change, *, unequal: bool
) -> list[str]:
    if relation == "one contains the other":
        return [f"something {change}" if change else "with an addition to one of them"]
    if motion.moved or relation == "same picture":
        return []
    if change == "removed":
        return ["something removed"]
    if appearance.covered > _MIN_COVERED:
        return ["partly covered", "something added"] if change else ["partly covered"]
    if change:
        return ["something added"]
    # other hues have other greys, and a blur takes fine texture
    otherwise = appearance.colours.hue or unequal
    return ["differs in places"] if motion.differing > _MAX_SAME and not otherwise else []


def _coloured(appearance: Appearance) -> list[str]:
    if appearance.colours.grey:
        return ["without colour"]
    if appearance.colours.hue:
        return ["recoloured"]
    return ["colours adjusted"] if appearance.adjusted else []


def _resized(scale: float) -> str:
    if scale > _MAX_SCALE or scale < 1 / _MAX_SCALE:
        return "much larger" if scale > 1 else "much smaller"
    return f"resized to {round(scale * 100)} %"


def _turned(shape: Shape) -> list[str]:
    quarters = round(shape.angle / 90) % 4
    off = abs((shape.angle + 45) % 90 - 45)
    if shape.mirrored and quarters == 2 and off < _TURN_SLACK:
        return ["mirrored top to bottom"]
    words = ["mirrored"] if shape.mirrored else []
    if off >= _TURN_SLACK:
        words.append(f"turned {abs(round(shape.angle))}° {'left' if shape.angle > 0 else 'right'}")
    elif quarters == 2:
        words.append("upside down")
    elif quarters:
        words.append("turned 90° left" if quarters == 1 else "turned 90° right")
    return words
