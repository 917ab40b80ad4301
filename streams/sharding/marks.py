"""Marks in the log of embeddings: which shards answer for the images that come after them.

A mark is the removal of an image that there cannot be, so readers that know no marks pass over it. Every shard follows
the whole log, whether it answers or not, and notes the last mark beside its committed offset. So who answers for an
image depends on the log alone: for each, one number of shards, whatever is killed when.
"""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from streams.sharding.shards import MAX_SHARDS, Shard
from streams.stage import Headers, Received
from streams.topics import ANNOUNCED_IN

KEY: Final = "\0shards."
"""What the key of a mark begins with: no file can have a name with a NUL."""

ANSWERING: Final = "shards-answering"
BESIDE: Final = "shards-beside"
"""Headers of a mark."""


class Role(StrEnum):
    """What a shard has to do after a mark."""

    ANSWERS = "answers"
    FOLLOWS = "follows"
    NOT_NEEDED = "not needed"


@dataclass(frozen=True)
class Mark:
    """Which shards follow the log from one of its offsets on.

    answering  how many shards there are of those that answer; 0: none, while their groups are being made
    beside     how many there are of those that follow without answering; 0: none
    """

    answering: int
    beside: int = 0

    def role(self, count: int) -> Role:
        """Return what each of `count` shards has to do."""
        if count == self.answering:
            return Role.ANSWERS
        return Role.FOLLOWS if count == self.beside else Role.NOT_NEEDED

    @property
    def headers(self) -> Headers:
        """Of its message."""
        return (ANSWERING, str(self.answering).encode()), (BESIDE, str(self.beside).encode())

    @property
    def note(self) -> str:
        """What a shard commits beside its offset."""
        return json.dumps({"answering": self.answering, "beside": self.beside}, separators=(",", ":"))


def new_key() -> str:
    """Return the key of one mark. Each has its own: compaction must not remove a mark that a later one follows."""
    return KEY + uuid.uuid4().hex


def is_key(path: str) -> bool:
    """Whether a message with this key is about a mark and no image."""
    return path.startswith(KEY)


def mark_in(received: Received[Any]) -> Mark | None:
    """Return the mark that a message of the log is, None for another one."""
    headers = dict(received.headers)
    # what an encoder passed on was announced by a producer, who cannot make marks
    if received.record is not None or not is_key(received.path) or ANNOUNCED_IN in headers:
        return None
    answering, beside = (_number(headers.get(name)) for name in (ANSWERING, BESIDE))
    return Mark(answering, beside) if answering else None


def _number(value: bytes | None) -> int:
    number = int(value) if value and value.isdigit() else 0
    return number if number <= MAX_SHARDS else 0


def mark_noted(note: str, shard: Shard) -> Mark:
    """Return the mark that a shard has noted; without any it answers, as it did before there were marks."""
    if not note:
        return Mark(shard.count)
    fields = json.loads(note)
    return Mark(fields["answering"], fields["beside"])


class Turn:
    """Whether it is one shard's turn to answer, by the marks of the log that it has read.

    serves  whether it answers requests, too. A shard that has answered goes on with that for as long as it follows the
            log, so that no request falls between the old shards and the new ones
    """

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._committed = self._last = Mark(shard.count)
        self.serves = False

    @property
    def role(self) -> Role:
        """What the shard has to do where it is in its batch."""
        return self._last.role(self._shard.count)

    @property
    def note(self) -> str:
        """What is committed with the batch."""
        return self._last.note

    @property
    def answering(self) -> int:
        """How many shards answer."""
        return self._last.answering

    def restore(self, note: str) -> None:
        """Begin where the note was committed."""
        self._committed = self._last = mark_noted(note, self._shard)
        self.serves = self.role is Role.ANSWERS

    def begin(self) -> None:
        """Begin a batch: one before it may have been aborted."""
        self._last = self._committed

    def take(self, mark: Mark) -> bool:
        """Take a mark; return whether this shard has answered up to it and answers no more."""
        before, self._last = self.role, mark
        return before is Role.ANSWERS and self.role is not Role.ANSWERS

    def committed(self) -> None:
        """Note that the batch was committed."""
        self._committed = self._last
        self.serves = self.serves or self.role is Role.ANSWERS


@dataclass(frozen=True)
class ShardGroup:
    """The group by which one shard follows the log: its committed offset, and the mark that it has noted there.

    note  as committed; empty: by a version without marks, or of a group that has read nothing yet
    """

    shard: Shard
    offset: int
    note: str = ""

    @property
    def mark(self) -> Mark:
        """The last mark before its offset."""
        return mark_noted(self.note, self.shard)

    @property
    def role(self) -> Role:
        """What it has to do at its offset."""
        return self.mark.role(self.shard.count)


@dataclass(frozen=True)
class ShardGroups:
    """The groups of all shards that follow one log, of whatever number."""

    groups: tuple[ShardGroup, ...] = ()

    def __iter__(self) -> Iterator[ShardGroup]:
        return iter(self.groups)

    @property
    def counts(self) -> list[int]:
        """The numbers of shards that there are groups of."""
        return sorted({group.shard.count for group in self.groups})

    def of(self, count: int) -> list[ShardGroup]:
        """Return the groups of one number of shards."""
        return [group for group in self.groups if group.shard.count == count]

    @property
    def answering(self) -> int | None:
        """How many shards answer at the furthest place that any has reached; None where none do."""
        known = [group for group in self.groups if group.mark.answering]
        return max(known, key=lambda group: group.offset).mark.answering if known else None

    @property
    def needed(self) -> list[int]:
        """The numbers of shards of which some answer, or follow beside those that do."""
        return [c for c in self.counts if any(group.role is not Role.NOT_NEEDED for group in self.of(c))]
