"""Animations: which of their frames are compared, and what the verdicts on frames say of the whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final, Protocol, TypeVar

import numpy as np

from imagetools.features.extract import Features
from imagetools.matching.detail import is_blank
from imagetools.matching.relation import Relation

PLACES: Final = ("first", "middle", "late")
"""Names of the frames that stand for an animation, by their numbers in `Features.frames`."""

# Mean difference of colours, of 255, up to which two blank frames are the same
_MAX_SHADE_GAP: Final = 16.0
# Frames that are enough to decide by
_ENOUGH: Final = 2
# A frame with a lower score settles that two animations differ
_SETTLED: Final = 0.05

# An animation contains the picture of any of its frames: the relation of a still to it, and of it to a still, by that
# of the frame
_OF_STILL: Final[Mapping[Relation, Relation]] = {"same": "crop", "contains": "overlap"}
_OF_ANIMATION: Final[Mapping[Relation, Relation]] = {"same": "contains", "crop": "overlap"}


class FrameVerdict(Protocol):
    """What is used of the verdict on a pair of frames; `verify` returns such a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def score(self) -> float:
        """The probability of a copy."""

    @property
    def duplicate(self) -> bool:
        """Whether the score reaches the threshold."""

    @property
    def inliers(self) -> int:
        """How many matches agree with the map."""

    @property
    def edit(self) -> str:
        """What was done, in words."""

    @property
    def gate(self) -> str:
        """What a pair failed at."""

    @property
    def relation(self) -> Relation:
        """What the candidate shows of the neighbor."""


_EQUAL: Final = "identical pixels"

V = TypeVar("V", bound=FrameVerdict)


def compare_frames(candidate: Features, neighbor: Features, judge: Callable[[int, int], V]) -> V:
    """Return the verdict on a pair of which at least one is an animation.

    Two animations are one where all frames are, the first with the first, and so on: the frame with the lowest score
    decides. Frames that are blank in both, such as a black beginning, tell nothing; one that is blank in one alone, as
    where the copy has a caption, is left out where two others decide.

    A still is one frame of an animation where any frame that is not blank shows it: the best one decides.

    Points and regions are those of the frames that decided; the verdict's `frames` says which these are.

    judge  compares a frame of the candidate with a frame of the neighbor, each by its number in `Features.frames`
    """
    if candidate.later and neighbor.later:
        return _of_two(candidate.frames, neighbor.frames, judge)
    if candidate.later:
        return _of_still({(number, 0): judge(number, 0) for number in _telling(candidate.frames)}, _OF_ANIMATION)
    return _of_still({(0, number): judge(0, number) for number in _telling(neighbor.frames)}, _OF_STILL)


def _of_two(ours: Sequence[Features], theirs: Sequence[Features], judge: Callable[[int, int], V]) -> V:
    found: list[tuple[int, V]] = []
    for number in _deciding(ours, theirs):
        found.append((number, judge(number, number)))
        if found[-1][1].score < _SETTLED:
            break
    # a frame that the settings leave out decides, whatever its score
    number, weakest = min(found, key=lambda one: (one[1].duplicate, one[1].score))
    if weakest.duplicate:
        # a title says less of how an animation was cropped than what follows it
        number, shown = max(found, key=lambda one: one[1].inliers)
        # equal frames, such as a title, do not make the animations equal: not all frames are compared
        edit = next((one.edit for one in (shown, weakest) if one.edit != _EQUAL), "re-encoded")
        return replace(shown, score=weakest.score, edit=edit, frames=(number, number))
    return replace(weakest, gate=f"{PLACES[number]} frame: {weakest.gate}", frames=(number, number))


def _of_still(found: Mapping[tuple[int, int], V], relations: Mapping[Relation, Relation]) -> V:
    frames = max(found, key=lambda pair: (found[pair].duplicate, found[pair].score))
    best = replace(found[frames], frames=frames)
    if not best.duplicate:
        return best
    what = "one frame of an animation"
    edit = what if best.edit in ("re-encoded", _EQUAL) else f"{what}, {best.edit}"
    return replace(best, edit=edit, relation=relations.get(best.relation, best.relation))


def _telling(frames: Sequence[Features]) -> Sequence[int]:
    """Return the numbers of different frames that are not blank; of all different ones where all are blank."""
    different = list({frame.key: number for number, frame in reversed(list(enumerate(frames)))}.values())[::-1]
    return [number for number in different if not is_blank(frames[number].close)] or different


def _deciding(ours: Sequence[Features], theirs: Sequence[Features]) -> Sequence[int]:
    """Return the numbers of the frames that two animations are compared by."""
    pairs = list(zip(ours, theirs, strict=True))
    blank = [(is_blank(one.close), is_blank(two.close)) for one, two in pairs]
    full = [number for number, either in enumerate(blank) if not any(either)]
    if len(full) >= _ENOUGH:
        return full
    near = [float(np.abs(one.shade - two.shade).mean()) <= _MAX_SHADE_GAP for one, two in pairs]
    return [number for number in range(len(pairs)) if not (all(blank[number]) and near[number])] or [0]
