"""Describe in plain words what was done to a copy."""

import math
from dataclasses import dataclass

import numpy as np

from imagetools.matching.appearance import Appearance
from imagetools.matching.detail import Relation
from imagetools.matching.geometry import Map, determinant, stretches

# A turn, a stretch or a cut below these is an error of fitting the map, not an edit
_TURN_SLACK = 4.0
_STRETCH_SLACK = 1.06
_MIN_WHOLE = 0.94
# Smaller holes are lost fine texture
_MIN_COVERED = 0.06
# Beyond this many times the size a percentage says little
_MAX_SCALE = 20


@dataclass(frozen=True)
class Shape:
    """Geometry of a map from neighbor to candidate.

    mirrored  left and right are exchanged before the turn
    scale     growth of lengths, each image measured in its own longer side; 1 where the whole picture is kept
    angle     degrees counter-clockwise, (-180, 180]
    stretch   how much more one direction grows than the other, 1 or more
    """

    mirrored: bool
    scale: float
    angle: float
    stretch: float


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
    return Shape(mirrored, scale, 180.0 if angle <= -179.995 else angle, larger / max(smaller, 1e-9))


def describe(
    shape: Shape,
    appearance: Appearance,
    coverage_candidate: float,
    coverage_neighbor: float,
    relation: Relation | None = None,
) -> str:
    """Say what was done to the neighbor to get the candidate.

    coverage_candidate, coverage_neighbor  share of each area that the other covers, 0 to 1
    relation                               that of their detail, where it was compared
    """
    if relation == "both are blank":
        return relation
    if appearance.equal:
        return "identical pixels"
    words = _turned(shape)
    if coverage_neighbor < _MIN_WHOLE:
        words.append(f"cropped to {round(coverage_neighbor * 100)} %")
    if coverage_candidate < _MIN_WHOLE and coverage_neighbor >= 0.5:
        words.append("padded" if appearance.flat > 0.9 else "pasted into a larger picture")
    elif coverage_candidate < _MIN_WHOLE:
        words.append("partly pasted into another picture")
    if relation == "one contains the other":
        words.append("with an addition to one of them")
    elif appearance.covered > _MIN_COVERED and relation != "same picture":
        words.append("partly covered")
    if shape.stretch > _STRETCH_SLACK:
        words.append("stretched")
    if appearance.negative:
        words.append("inverted")
    words += _coloured(appearance)
    whole = coverage_candidate >= _MIN_WHOLE and coverage_neighbor >= _MIN_WHOLE
    if whole and not 0.95 < appearance.shrunk < 1.05:
        words.append(_resized(appearance.shrunk))
    return ", ".join(words) or "re-encoded"


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
