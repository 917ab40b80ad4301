"""One pair on the report page: both images, lines between matching points, and outlines of what differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cli.picture import Box, Layout, side_by_side
from cli.report.matched_frames import FrameLook

_UNITS: Final = 1000
"""An image's longer side in the units of the lines."""

_GAP: Final = 60

_OUTLINED: Final = 24
"""Regions of a pair that are outlined, the largest; more would not be told apart, and make the page large."""

_AWAY: Final = 10
"""Units between what differs and its outline."""


@dataclass(frozen=True)
class Shown:
    """One image on the page.

    href       the image itself, relative to the page; loaded only when it is followed
    thumbnail  relative to the page; empty if the image cannot be read, then with a `reason`
    size       (width, height) of the thumbnail in pixels
    frame      which frame of an animation the thumbnail shows, in words; empty for the first one
    """

    path: str
    href: str
    thumbnail: str
    size: tuple[int, int]
    reason: str = ""
    frame: str = ""


@dataclass(frozen=True)
class ReportedPair:
    """One pair. The left one is earlier in the log, and the edit turns it into the right one.

    found      the pair's evidence
    lines      SVG path data: a stroke for each matching point, in the layout's units
    dots       SVG path data: the ends of the strokes, as strokes without length
    outlines   SVG path data: a rectangle for each region that differs, on both images
    same_file  both are names of one file: neither is a copy to delete
    """

    left: Shown
    right: Shown
    found: Mapping[str, Any]
    layout: Layout
    lines: str
    dots: str
    outlines: str
    same_file: bool


def reported_pair(left: Shown, right: Shown, found: Mapping[str, Any]) -> ReportedPair:
    """Lay out one pair.

    found  evidence as the JSON contract shapes it, whose points and regions name the right image first; `frames`: the
           later frames that are shown of left and right
    """
    left, right = (_at_frame(*one) for one in zip((left, right), found.get("frames", (None, None)), strict=True))
    layout = side_by_side(left.size, right.size, _UNITS, _GAP)
    lines, dots, outlines = [], [], []
    if left.thumbnail and right.thumbnail:
        for x, y, x2, y2 in found.get("points", ()):
            (x1, y1), (x3, y3) = layout.first.at(x2, y2), layout.second.at(x, y)
            lines.append(f"M{x1:.0f} {y1:.0f}L{x3:.0f} {y3:.0f}")
            dots.append(f"M{x1:.0f} {y1:.0f}h0M{x3:.0f} {y3:.0f}h0")
        for region in found.get("regions", ())[:_OUTLINED]:
            outlines += [_outline(layout.first, region[4:]), _outline(layout.second, region[:4])]
    same_file = bool(found.get("same_file"))
    return ReportedPair(left, right, found, layout, "".join(lines), "".join(dots), "".join(outlines), same_file)


def _at_frame(shown: Shown, frame: FrameLook | None) -> Shown:
    if frame is None or not shown.thumbnail:
        return shown
    return replace(shown, thumbnail=frame.thumbnail, size=frame.size, frame=frame.words)


def _outline(box: Box, sides: Sequence[float]) -> str:
    (x1, y1), (x2, y2) = box.at(sides[0], sides[1]), box.at(sides[2], sides[3])
    across, down = x2 - x1 + 2 * _AWAY, y2 - y1 + 2 * _AWAY
    return f"M{x1 - _AWAY:.0f} {y1 - _AWAY:.0f}h{across:.0f}v{down:.0f}h{-across:.0f}z"
