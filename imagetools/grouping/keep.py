"""Suggest which image of a group to keep, and say why."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from imagetools.errors import ConfigError
from imagetools.grouping.records import ImageKey

# Sizes and measures this close count as equal: rounding while shrinking moves them by as much
_EQUAL_SIZE: Final = 0.98
_EQUAL_SHARPNESS: Final = 0.9
_EQUAL_STEP: Final = 1.05


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of an image's file.

    width, height  of the picture, pixels
    bytes          of the file
    format         such as "JPEG"
    cropped        another image shows more of the picture
    written_on     something covers part of the picture that another image shows, or frames it
    sharpness      see `imagetools.grouping.quality.sharpness`; None: not measured
    step           see `imagetools.grouping.quality.quantization_step`; None: not known
    """

    width: int
    height: int
    bytes: int
    format: str
    cropped: bool = False
    written_on: bool = False
    sharpness: float | None = None
    step: float | None = None

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


def _largest(images: Sequence[ImageKey], facts: _Facts) -> Sequence[ImageKey]:
    most = max(facts[image].pixels for image in images)
    return [image for image in images if facts[image].pixels >= _EQUAL_SIZE * most]


def _sharpest(images: Sequence[ImageKey], facts: _Facts) -> Sequence[ImageKey]:
    measured = {image: value for image in images if (value := facts[image].sharpness) is not None}
    most = max(measured.values(), default=0.0)
    # what was not measured may be the sharpest
    return [image for image in images if measured.get(image, most) >= _EQUAL_SHARPNESS * most]


def _finest(images: Sequence[ImageKey], facts: _Facts) -> Sequence[ImageKey]:
    steps = {image: value for image in images if (value := facts[image].step) is not None}
    least = min(steps.values(), default=1.0)
    return [image for image in images if steps.get(image, least) <= _EQUAL_STEP * least]


def _earliest(images: Sequence[ImageKey], facts: _Facts) -> Sequence[ImageKey]:
    return images[:1]


_CRITERIA: Final[Mapping[str, tuple[_Criterion, str]]] = {
    "whole": (_whole, "not cropped"),
    "clean": (_clean, "nothing over it or around it"),
    "largest": (_largest, "largest picture"),
    "sharpest": (_sharpest, "sharper"),
    "finest": (_finest, "less compressed"),
    "earliest": (_earliest, "earliest"),
}

KEEP_ORDER: Final = tuple(_CRITERIA)
"""What weighs more comes first. What is cut off or covered cannot be regained, and size says more than quality."""


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
