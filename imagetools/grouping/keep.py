"""Suggest which image of a group to keep, and say why."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from imagetools.errors import ConfigError
from imagetools.grouping.records import ImageKey

# Sizes this close count as equal: rounding while shrinking moves them by as much
_EQUAL_SIZE: Final = 0.98
# A picture without colour, beside one that has this much more
_GREY: Final = 3.0
_MIN_COLOUR_LOST: Final = 3.0
# Compression changes sharpness by less: of 80 photos of the fit side, JPEG quality 15 multiplies it by 1.09 at most in
# 98 of 100, and an unsharp mask of 2 pixels and 150 % by 1.19 or more in 95
_EQUAL_SHARPNESS: Final = 1.15
# Of two pictures with unequal sharpness, one with less fineness is blurred, see `quality.sharpness`; else the other was
# sharpened, which adds to the fineness
_BLURRED: Final = 0.8
_SHARPENED: Final = 1.1
# Nobody sees what the steps of libjpeg's quality 82 or more take
_UNSEEN_STEP: Final = 20.0
_EQUAL_STEP: Final = 1.2
# An earlier step as it is estimated, over the step of its file
_ESTIMATE: Final = 1.35


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a file renders its picture. None: not measured, or not known.

    sharpness  how much neighboring shades differ at 256 pixels, see `imagetools.grouping.quality`
    fineness   how much finer detail there is for each of it
    step       mean step of a JPEG's luminance quantization, 1 without loss
    earlier    mean step of the JPEG that the picture was before, None: no sign of one
    colour     mean difference between the strongest and the weakest channel, 0 to 255
    """

    sharpness: float | None = None
    fineness: float | None = None
    step: float | None = None
    earlier: float | None = None
    colour: float | None = None


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of an image's file.

    width, height  of the picture, pixels
    bytes          of the file
    format         such as "JPEG"
    cropped        another image shows more of the picture
    written_on     something covers part of the picture that another image shows, or frames it
    quality        as it was measured
    """

    width: int
    height: int
    bytes: int
    format: str
    cropped: bool = False
    written_on: bool = False
    quality: Quality = Quality()

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The image to keep.

    reasons  in words, the weightiest first: what it has before at least one of the others
    """

    keep: ImageKey
    reasons: tuple[str, ...]


_Facts = Mapping[ImageKey, FileFacts]
_Criterion = Callable[[Sequence[ImageKey], _Facts], Sequence[ImageKey]]


def _whole(images: Sequence[ImageKey], facts: _Facts) -> Sequence[ImageKey]:
    return [image for image in images if not facts[image].cropped]


def _clean(images: Sequence[ImageKey], facts: _Facts) -> Sequence[ImageKey]:
    return [image for image in images if not facts[image].written_on]


def _coloured(images: Sequence[ImageKey], facts: _Facts) -> Sequence[ImageKey]:
    measured = {image: value for image in images if (value := facts[image].quality.colour) is not None}
    most = max(measured.values(), default=0.0)
    # what was not measured may have colours
    return [image for image in images if measured.get(image, most) >= min(_GREY, most - _MIN_COLOUR_LOST)]


def _largest(images: Sequence[ImageKey], facts: _Facts) -> Sequence[ImageKey]:
    most = max(facts[image].pixels for image in images)
    return [image for image in images if facts[image].pixels >= _EQUAL_SIZE * most]


def _sharpest(images: Sequence[ImageKey], facts: _Facts) -> Sequence[ImageKey]:
    """Leave out what is blurred beside another, then what was sharpened beside another."""
    unblurred = [one for one in images if not any(_is_blurred(facts[one], facts[other]) for other in images)]
    return [one for one in unblurred if not any(_is_sharpened(facts[one], facts[other]) for other in unblurred)]


def _is_blurred(one: FileFacts, other: FileFacts) -> bool:
    ours, theirs = one.quality, other.quality
    if ours.sharpness is None or theirs.sharpness is None or ours.fineness is None:
        return False
    return theirs.sharpness > _EQUAL_SHARPNESS * ours.sharpness and ours.fineness < _BLURRED


def _is_sharpened(one: FileFacts, other: FileFacts) -> bool:
    ours, theirs = one.quality, other.quality
    if ours.sharpness is None or theirs.sharpness is None or ours.fineness is None or theirs.fineness is None:
        return False
    natural = theirs.fineness >= _BLURRED and ours.fineness > _SHARPENED * theirs.fineness
    return natural and ours.sharpness > _EQUAL_SHARPNESS * theirs.sharpness


def _finest(images: Sequence[ImageKey], facts: _Facts) -> Sequence[ImageKey]:
    steps = {image: value for image in images if (value := _coarsest_step(facts[image].quality)) is not None}
    least = min(steps.values(), default=_UNSEEN_STEP)
    return [image for image in images if steps.get(image, least) <= _EQUAL_STEP * least]


def _coarsest_step(quality: Quality) -> float | None:
    """Return the step that took most of a picture: finer ones after it bring nothing back."""
    return None if quality.step is None else max(quality.step, quality.earlier or 0.0, _UNSEEN_STEP)


def _original(images: Sequence[ImageKey], facts: _Facts) -> Sequence[ImageKey]:
    """Leave out a JPEG saved again beside one that was saved once, with the step that the other had before."""
    qualities = [facts[image].quality for image in images]
    once = [quality.step for quality in qualities if quality.step is not None and quality.earlier is None]
    return [
        image
        for image, quality in zip(images, qualities, strict=True)
        if quality.earlier is None or not any(1 / _ESTIMATE <= step / quality.earlier <= _ESTIMATE for step in once)
    ]


def _earliest(images: Sequence[ImageKey], facts: _Facts) -> Sequence[ImageKey]:
    return images[:1]


_CRITERIA: Final[Mapping[str, tuple[_Criterion, str]]] = {
    "whole": (_whole, "not cropped"),
    "clean": (_clean, "nothing over it or around it"),
    "coloured": (_coloured, "in colour"),
    "largest": (_largest, "largest picture"),
    "sharpest": (_sharpest, "neither blurred nor sharpened"),
    "finest": (_finest, "less compressed"),
    "original": (_original, "not saved again"),
    "earliest": (_earliest, "earliest"),
}

KEEP_ORDER: Final = tuple(_CRITERIA)
"""What weighs more comes first. What is cut off, covered or without colour cannot be regained, and size says more than
quality."""


def require_order(order: Collection[str]) -> None:
    """Refuse an order with a criterion that there is not, or with one twice. ConfigError."""
    unknown = [name for name in order if name not in _CRITERIA]
    if unknown or len(set(order)) < len(order):
        what = f"{unknown[0]!r} is not known" if unknown else "one is named twice"
        raise ConfigError(f"what to keep: {what}; the criteria are {', '.join(_CRITERIA)}")


def suggest(images: Sequence[ImageKey], facts: _Facts, order: Sequence[str] = KEEP_ORDER) -> Suggestion:
    """Suggest which image to keep.

    images  of one group, one at least, the earliest first
    order   names of criteria; each leaves the best of those that the criteria before it left. The earliest of what is
            left at the end is kept
    """
    require_order(order)
    left, reasons = list(images), []
    for name in order:
        criterion, words = _CRITERIA[name]
        best = criterion(left, facts)
        if best and len(best) < len(left):
            reasons.append(words)
            left = list(best)
    if len(left) > 1 and "earliest" not in order:
        reasons.append(_CRITERIA["earliest"][1])
    return Suggestion(left[0], tuple(reasons))
