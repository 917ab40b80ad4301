"""Which images were loaded silently and have not been searched for, and which images stand before which.

The state of the grouping stage says so: it follows the log of embeddings and keeps the place of each image and how it
came, whatever compaction takes from the log. What was searched for since stands in `deduped`.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from enum import IntEnum
from typing import Final

from imagetools.grouping.records import ImageKey
from imagetools.index.entry import Entry
from imagetools.index.image_table import ImageTable
from schemas.group_records import FactKind, GroupingFact
from schemas.neighbor_records import Neighbor
from schemas.records import Deduped
from streams.config import KafkaConfig
from streams.grouping.facts import edge_id
from streams.kafka.log_reader import LogReader
from streams.topics import DEDUPED, GROUPING_STATE

NO_NODE: Final = 0
"""The table is that of the index, where images stand on nodes."""

_EDGE: Final = "\0e"


class Came(IntEnum):
    """How an image came at its bytes.

    ANNOUNCED  it was searched for then, or has been since
    SILENT     nothing was searched for
    UNKNOWN    a version that did not note it put it into the state
    """

    ANNOUNCED = 0
    SILENT = 1
    UNKNOWN = 2


class SilentImages:
    """The images that there are, their order, and what is still to be searched for."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._images = ImageTable()
        # by row of the table
        self._came = bytearray()
        # of their keys 64 bits: a string takes three times as much
        self._alerted: set[int] = set()
        self._outdated: set[str] = set()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    # reading

    def take_fact(self, key: str, fact: GroupingFact | None) -> None:
        """Take a fact of the grouping stage's state; None: it holds no more."""
        if key.startswith(_EDGE):
            number = _number(key)
            self._alerted.discard(number) if fact is None else self._alerted.add(number)
        elif not key.startswith("\0"):
            if (row := self._images.find(key)) is not None:
                self._images.remove(row)
            if fact is not None and fact.kind is FactKind.IMAGE:
                self._add(key, fact)

    def take_deduped(self, path: str, done: Deduped | None) -> None:
        """Take what an earlier run has searched for, once all facts are there."""
        self._outdated.discard(path)
        if done is None:
            return
        row = self._images.find(path)
        entry = None if row is None else self._images.entry(row)
        if row is not None and entry is not None and (entry.digest, entry.order) == (done.content, done.place):
            self._came[row] = Came.ANNOUNCED
        else:
            self._outdated.add(path)

    # what is to be done

    def count(self, came: Came, prefix: str = "") -> int:
        """Return how many images came so; prefix: only those whose paths begin with it."""
        rows = (row for row in self._images if self._came[row] == came)
        if not prefix:
            return sum(1 for _ in rows)
        return sum(self._images.entry(row).relative_path.startswith(prefix) for row in rows)

    def take(self, path: str, content: bytes, *, alert: bool) -> int | None:
        """Return the place of an image that is to be searched for, and note that it is; None where it is not.

        content  of its record in the log
        alert    whether that record says so; it decides where nothing else is known
        """
        row = self._images.find(path)
        if row is None or not self._images.has_digest(row, content):
            return None
        came = self._came[row]
        self._came[row] = Came.ANNOUNCED
        if came == Came.SILENT or (came == Came.UNKNOWN and not alert):
            return self._images.entry(row).order
        return None

    def before(self, path: str, neighbors: Sequence[Neighbor]) -> tuple[Neighbor, ...]:
        """Return the neighbors that stand before an image at the bytes that were found, and are in no alert with it."""
        row = self._images.find(path)
        image = None if row is None else self._images.entry(row)
        return () if image is None else tuple(one for one in neighbors if self._is_news(image, one))

    def take_outdated(self) -> set[str]:
        """Return the paths that `deduped` names for images that have gone or changed."""
        outdated, self._outdated = self._outdated, set()
        return outdated

    def _add(self, path: str, fact: GroupingFact) -> None:
        row = self._images.add(Entry(fact.place, path, digest=fact.images[0].content), NO_NODE)
        self._came.extend(bytes(max(0, row + 1 - len(self._came))))
        self._came[row] = Came.UNKNOWN if fact.silent is None else Came(fact.silent)

    def _is_news(self, image: Entry, neighbor: Neighbor) -> bool:
        row = self._images.find(neighbor.relative_path)
        if row is None or not self._images.has_digest(row, neighbor.content):
            return False
        other = self._images.entry(row)
        if other.order >= image.order:
            return False
        one, two = sorted(ImageKey(entry.relative_path, entry.digest.hex()) for entry in (image, other))
        return _number(edge_id((one, two))) not in self._alerted


def _number(edge_key: str) -> int:
    return int(edge_key[len(_EDGE) : len(_EDGE) + 16], 16)


def read_silent_images(kafka: KafkaConfig, show: Callable[[int, int], None]) -> SilentImages:
    """Read what the grouping stage knows, and what earlier runs have searched for.

    show  gets the offset that was read, and that of the end
    """
    images = SilentImages()
    with closing(LogReader(kafka, GROUPING_STATE.name, GroupingFact, 0)) as facts:
        end = facts.end()
        for fact in facts.read(0, end, patient=True):
            if fact is not None:
                images.take_fact(fact.path, fact.record)
                show(fact.offset, end)
    with closing(LogReader(kafka, DEDUPED.name, Deduped, 0)) as deduped:
        for done in deduped.read(0, deduped.end(), patient=True):
            if done is not None:
                images.take_deduped(done.path, done.record)
    return images
