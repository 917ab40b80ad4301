"""Compare two copies on their larger pictures: what moved, and which of them something was added to."""

from dataclasses import dataclass
from typing import Final, Literal

from imagetools.features.extract import Features
from imagetools.matching.additions import find_addition
from imagetools.matching.alignment import Alignment, cut_out_close
from imagetools.matching.appearance import is_equal
from imagetools.matching.detail import Detail
from imagetools.matching.motion import NOTHING_MOVED, SIDE, Motion, find_motion

# The share of textured spots that agree, above which nothing is looked for. Of copies of 40 photos of the fit side that
# something was added to, 1 in 180 agrees in more; of the others, half
_ALL_AGREES: Final = 0.9995


@dataclass(frozen=True)
class CloserLook:
    """How two copies differ at close range.

    motion  what moved
    added   the picture that something was added to; "" where nothing was, or nobody can tell
    """

    motion: Motion = NOTHING_MOVED
    added: Literal["first", "second", ""] = ""


def look_closer(alignment: Alignment, first: Features, second: Features, seen: Detail | None) -> CloserLook:
    """Compare two copies by their alignment, from the first to the second.

    seen  their detail, where it was compared
    """
    compared = seen is not None and seen.relation != "unclear"
    added = seen is not None and seen.relation == "one contains the other"
    if alignment.negative or (compared and not added) or is_equal(first, second):
        return CloserLook()
    if not compared and alignment.evidence.agreement.share > _ALL_AGREES:
        return CloserLook()
    overlap = cut_out_close(alignment, first, second, SIDE)
    if overlap is None:
        return CloserLook()
    motion = NOTHING_MOVED if compared else find_motion(overlap)
    side = "" if motion.moved else find_addition(overlap)
    if not side:
        return CloserLook(motion)
    return CloserLook(motion, "second" if (side == "here") == overlap.frame.turned else "first")
