"""People's decisions that are not undone, and what they say of each pair of images."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from imagetools.errors import MessageError
from imagetools.grouping.records import Choice, ImageKey
from schemas.group_records import DecisionRecord, ImageContent

CONTENT_BYTES: Final = 32

Pair = tuple[ImageKey, ImageKey]
"""Two images, in order."""


@dataclass(frozen=True, slots=True)
class StandingDecision:
    """One decision.

    place  its offset: of several on a pair, the newest holds that says more than "later"
    """

    place: int
    record: DecisionRecord


class StandingDecisions:
    """Decisions by key. One on more than two images says of each that it shows the first one's picture."""

    def __init__(self) -> None:
        self._by_key: dict[str, StandingDecision] = {}
        self._words: dict[Pair, dict[str, tuple[int, Choice]]] = {}
        self._chosen: dict[ImageKey, set[str]] = {}

    def __len__(self) -> int:
        """Return how many decisions stand."""
        return len(self._by_key)

    def put(self, key: str, place: int, record: DecisionRecord | None) -> dict[Pair, Choice | None]:
        """Take a decision, or undo it; return what is said now of each pair whose word has changed.

        record  None: undone
        """
        old = self._by_key.pop(key, None)
        pairs = [*_pairs(old.record if old else None), *_pairs(record)]
        before = {pair: self.word(*pair) for pair in pairs}
        if old is not None:
            self._forget(key, old.record)
        if record is not None:
            self._by_key[key] = StandingDecision(place, record)
            for pair in _pairs(record):
                self._words.setdefault(pair, {})[key] = place, record.decision
            for image in record.images if record.keep else ():
                self._chosen.setdefault(image_key(image), set()).add(key)
        return {pair: word for pair, said in before.items() if (word := self.word(*pair)) != said}

    def word(self, one: ImageKey, two: ImageKey) -> Choice | None:
        """Return the newest word on a pair, "later" only where nothing else was said; None if there is none."""
        said = self._words.get((one, two) if one < two else (two, one))
        return max((choice is not Choice.LATER, place, choice) for place, choice in said.values())[2] if said else None

    def chosen(self, images: Iterable[ImageKey]) -> frozenset[ImageKey]:
        """Return which of a group's images people want to keep, by the newest decision that says so of any of them."""
        images = list(images)
        keys = {key for image in images for key in self._chosen.get(image, ())}
        for one in sorted((self._by_key[key] for key in keys), key=lambda one: -one.place):
            kept = {image_key(image) for image in one.record.images if image.relative_path in one.record.keep}
            if found := kept.intersection(images):
                return frozenset(found)
        return frozenset()

    def _forget(self, key: str, record: DecisionRecord) -> None:
        for pair in _pairs(record):
            words = self._words[pair]
            del words[key]
            if not words:
                del self._words[pair]
        for image in record.images if record.keep else ():
            keys = self._chosen[image_key(image)]
            keys.discard(key)
            if not keys:
                del self._chosen[image_key(image)]


def image_key(image: ImageContent) -> ImageKey:
    """Return the image as the library knows it."""
    return ImageKey(image.relative_path, image.content.hex())


def content_of(image: ImageKey) -> ImageContent:
    """Return the image as records name it."""
    return ImageContent(image.path, bytes.fromhex(image.content))


def check(record: DecisionRecord) -> None:
    """Raise MessageError where a decision is none that can hold."""
    paths = [image.relative_path for image in record.images]
    if len(paths) < 2:
        raise MessageError(f"is a decision on {'one image' if paths else 'no image'}; it needs two or more")
    if len(set(paths)) < len(paths):
        raise MessageError("is a decision that names a path twice")
    if any(len(image.content) != CONTENT_BYTES for image in record.images):
        raise MessageError("is a decision with a content that is no SHA-256, 32 bytes")
    if record.decision is Choice.NOT_DUPLICATE and len(paths) > 2:
        raise MessageError("says not_duplicate of more than two images; one such decision is about two")
    if record.keep and record.decision is not Choice.DUPLICATE:
        raise MessageError(f"says which images to keep, with {record.decision}; only duplicate goes with it")
    if unknown := set(record.keep).difference(paths):
        raise MessageError(f"wants to keep {min(unknown)[:200]!r}, which is none of its images")


def _pairs(record: DecisionRecord | None) -> Iterator[Pair]:
    """Yield the pairs that a decision is about: the image to keep, or the first, with each other one."""
    if record is None:
        return
    images = [image_key(image) for image in record.images]
    hub = next((image for image in images if image.path in record.keep), images[0])
    for other in images:
        if other != hub:
            yield (hub, other) if hub < other else (other, hub)
