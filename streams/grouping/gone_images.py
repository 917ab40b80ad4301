"""Images that are gone, for as long as what is known of their pairs is kept.

An image may come back with the same bytes, and the alerts on it may be read before its announcement. Search takes one
that comes back for a new image, which is alerted again with its pairs; so after a while what is known of them may go.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from imagetools.grouping.records import ImageKey
from schemas.group_records import GroupingFact
from streams.grouping.facts import GONE, fact_id, gone_fact

KEEP_MS: Final = 30 * 24 * 60 * 60 * 1000
"""As long as Kafka keeps the ends of facts, by the topics' `delete.retention.ms`."""

SETTLED_MS: Final = 60 * 60 * 1000
"""An image becomes a fact when it has been gone for so long: most alerts that are read early wait for seconds."""

MOST_AT_A_TIME: Final = 200
"""Images of which facts are written or ended in one batch, so that a transaction stays short."""


class GoneImage(NamedTuple):
    """An image with pairs that is gone, or that an alert named before it was announced.

    since  milliseconds since 1970
    """

    image: ImageKey
    since: int


def now_ms() -> int:
    """Return the time, milliseconds since 1970."""
    return int(time.time() * 1000)


class GoneImages:
    """These images by the key of their fact, the earliest in front."""

    def __init__(self) -> None:
        self._new: dict[str, GoneImage] = {}
        self._facts: dict[str, GoneImage] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._new) + len(self._facts)

    def __contains__(self, image: object) -> bool:
        """Return whether an image is one of them."""
        return isinstance(image, ImageKey) and (_key(image) in self._new or _key(image) in self._facts)

    def note(self, image: ImageKey, since: int) -> None:
        """Note that an image is gone, from now on or since `since`, milliseconds since 1970."""
        self._new[_key(image)] = GoneImage(image, since)

    def update(
        self, images: Iterable[ImageKey], is_gone: Callable[[ImageKey], bool], now: int
    ) -> dict[str, GroupingFact | None]:
        """Note which images are gone or back, and which are named by an alert though they are gone.

        images   that may have changed
        is_gone  says whether one is gone and has pairs
        now      milliseconds since 1970
        Returns the facts that have changed, by key; None: one that holds no more.
        """
        facts: dict[str, GroupingFact | None] = {}
        for image in images:
            key = _key(image)
            self._new.pop(key, None)
            was_fact = self._facts.pop(key, None) is not None
            if not is_gone(image):
                facts |= {key: None} if was_fact else {}
            elif was_fact:
                facts[key] = self._write(key, GoneImage(image, now))
            else:
                self._new[key] = GoneImage(image, now)
        for key in _older(self._new, now - SETTLED_MS):
            facts[key] = self._write(key, self._new.pop(key))
        return facts

    def load(self, key: str, image: ImageKey, since: int) -> None:
        """Take a fact."""
        self._facts.pop(key, None)
        self._facts[key] = GoneImage(image, since)

    def end(self, key: str) -> ImageKey | None:
        """Forget a fact; return the image, None where there is none."""
        found = self._facts.pop(key, None)
        return None if found is None else found.image

    def due(self, now: int) -> dict[str, ImageKey]:
        """Return those whose pairs may go, by the key of their fact."""
        return {key: self._facts[key].image for key in _older(self._facts, now - KEEP_MS)}

    def _write(self, key: str, gone: GoneImage) -> GroupingFact:
        self._facts[key] = gone
        return gone_fact(key, *gone)


def _key(image: ImageKey) -> str:
    return fact_id(GONE, *image)


def _older(images: dict[str, GoneImage], than: int) -> list[str]:
    found = list[str]()
    for key, one in images.items():
        if one.since > than or len(found) == MOST_AT_A_TIME:
            break
        found.append(key)
    return found
