"""Reads dead letters, and sends them back to the topics that they came from, each once."""

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final

from confluent_kafka import KafkaException, Message

from imagetools.errors import ImageToolsError
from imagetools.paths import shown
from schemas.codec import codec
from streams.config import KafkaConfig
from streams.kafka.dead_letters import MAX_DEAD_LETTER_BYTES, ORIGIN, read_dead_letter
from streams.kafka.follower import ConsumedMessage, Follower
from streams.kafka.messages import Place, headers
from streams.kafka.transactional_producer import TransactionalProducer
from streams.stage import Headers
from streams.topics import (
    CANDIDATES,
    DEAD_LETTERS,
    DECISIONS,
    DUPLICATES,
    EMBEDDINGS,
    IMAGES_NEW,
    REPLAYED,
    REPLAYED_LETTER,
    TOPICS,
    Topic,
)

REPLAYABLE: Final = (IMAGES_NEW, CANDIDATES)
"""Topics of which a message can be sent back: an old one replaces nothing there."""

READ_S: Final = 600.0
"""How long reading a topic to its end may take."""

MAX_DIGITS: Final = 18
"""Of a number in a header, to fit 64 bits."""

BATCH: Final = 500
"""Letters of one transaction, which must end within 10 s."""


class LettersNotRead(ImageToolsError):
    """A topic could not be read to its end in time."""


class NoSuchLetter(ImageToolsError):
    """There is no dead letter at this offset."""


LetterPlace = tuple[int, int]
"""A partition of dead-letters, and an offset there."""


@dataclass(frozen=True)
class DeadLetter:
    """One message of dead-letters.

    name       its offset there, after its partition and a colon where that is not 0
    fields     path, reason, origin and time, as `read_dead_letter` returns them
    value      as the message came, cut at MAX_DEAD_LETTER_BYTES
    headers    the message's own, without the reason and the origin
    """

    name: str
    partition: int
    offset: int
    fields: Mapping[str, str]
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def replays(self) -> int:
        """How often the message had been replayed when it was set aside."""
        return _number((dict(self.headers).get(REPLAYED) or b"").decode("utf-8", "replace")) or 0

    @property
    def origin(self) -> tuple[Place, int] | None:
        """The partition and offset that it came from; None where it does not name them."""
        partition, offset = _number(self.fields["partition"]), _number(self.fields["offset"])
        return None if partition is None or offset is None else ((self.fields["topic"], partition), offset)


def read_letters(kafka: KafkaConfig, starts: Mapping[int, int] | None = None) -> Iterator[DeadLetter]:
    """Yield the dead letters that there are, the oldest first. PrerequisiteMissing, LettersNotRead.

    starts  the offset to begin at in each partition; other partitions are not read. None: read all
    """
    name = kafka.topic(DEAD_LETTERS.name)
    resume = {(name, partition): offset for partition, offset in (starts or {}).items()}
    with closing(Follower(kafka, [DEAD_LETTERS], from_beginning=starts is None, resume_at=resume)) as follower:
        for seen in _to_end(follower, name):
            yield letter_of(seen.message)


def letters_at(kafka: KafkaConfig, places: Sequence[LetterPlace]) -> list[DeadLetter]:
    """Return the letter at each place, in order, a place that is named twice once. NoSuchLetter, as `read_letters`."""
    starts: dict[int, int] = {}
    for partition, offset in places:
        starts[partition] = min(offset, starts.get(partition, offset))
    wanted = set(places)
    found = {place: one for one in read_letters(kafka, starts) if (place := (one.partition, one.offset)) in wanted}
    missing = [place for place in places if place not in found]
    if missing:
        names = ", ".join(name_of(*place) for place in missing)
        raise NoSuchLetter(f"no dead letter at {names}: `imagetools dead-letters list` shows those that there are")
    return [found[place] for place in dict.fromkeys(places)]


def name_of(partition: int, offset: int) -> str:
    """Return the name of the dead letter at that place."""
    return f"{partition}:{offset}" if partition else str(offset)


def origin_of(kafka: KafkaConfig, letter: DeadLetter) -> Topic | None:
    """Return the topic that a letter came from; None where it names none of the service's."""
    return next((topic for topic in TOPICS if kafka.topic(topic.name) == letter.fields["topic"]), None)


def reason_to_refuse(kafka: KafkaConfig, letter: DeadLetter) -> str | None:
    """Return why a letter must not be sent back, and what to do instead; None when it may be."""
    origin = origin_of(kafka, letter)
    announce = f"announce the image again: imagetools produce {shlex.quote(shown(letter.fields['relative_path']))}"
    if origin is EMBEDDINGS or letter.fields["stage"] == "search":
        return f"an old record would replace a newer one of its path in {letter.fields['topic']}; {announce}"
    if origin is DECISIONS:
        return "a newer decision may stand, which an older one would replace; decide again: imagetools decide A B WORD"
    if origin is DUPLICATES:
        return "every reader would get the alert again; say what the images are: imagetools decide A B WORD"
    if origin not in REPLAYABLE or letter.origin is None:
        return f"no message can be sent back to where it came from: {letter.fields['topic'] or 'no topic is named'}"
    if letter.value is not None and len(letter.value) >= MAX_DEAD_LETTER_BYTES:
        return f"only the first {MAX_DEAD_LETTER_BYTES:,} bytes of its value were kept; {announce}"
    return None


def not_replayed(kafka: KafkaConfig, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """Return the letters that were not sent back yet, as the topics that they came from tell. LettersNotRead.

    letters  such that may be sent back
    """
    starts: dict[Place, int] = {}
    for letter in letters:
        if letter.origin is not None:
            place, offset = letter.origin
            starts[place] = min(offset, starts.get(place, offset))
    names = {name for name, _ in starts}
    topics = [topic for topic in REPLAYABLE if kafka.topic(topic.name) in names]
    sent: set[tuple[str, bytes]] = set()
    with closing(Follower(kafka, topics, resume_at=starts, include_invalid=True)) as follower:
        for seen in _to_end(follower, ", ".join(sorted(names))):
            sent.add((seen.message.topic() or "", dict(headers(seen.message)).get(REPLAYED_LETTER) or b""))
    return [letter for letter in letters if (letter.fields["topic"], letter.name.encode()) not in sent]


class Replayer:
    """Sends letters back in transactions.

    Of two that run at a time the broker refuses the one that was made first. So no letter is sent twice if it is made
    before `not_replayed` looks.
    """

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka
        # one id for all: what another replay left open is aborted, and what it committed can be read
        own = replace(kafka, member="replay")
        self._producer = TransactionalProducer(own, DEAD_LETTERS.name, codec(kafka.registry))
        self._producer.start()

    def send(self, letters: Sequence[DeadLetter]) -> Iterator[int]:
        """Send letters back, and yield the number of those that are committed. KafkaException."""
        for start in range(0, len(letters), BATCH):
            batch = letters[start : start + BATCH]
            self._producer.begin()
            try:
                for letter in batch:
                    self._send(letter)
                self._producer.commit_messages()
            except KafkaException as exc:
                if not exc.args[0].fatal():
                    self._producer.abort()
                raise
            yield start + len(batch)

    def close(self) -> None:
        """Stop watching the producer."""
        self._producer.close()

    def _send(self, letter: DeadLetter) -> None:
        topic = origin_of(self._kafka, letter)
        if topic is None or letter.origin is None:
            raise ValueError(f"letter {letter.name} does not name where it came from")
        (_, partition), _ = letter.origin
        own = tuple(header for header in letter.headers if header[0] not in (REPLAYED, REPLAYED_LETTER))
        marks = (REPLAYED, str(letter.replays + 1).encode()), (REPLAYED_LETTER, letter.name.encode())
        # to the partition that it came from, where `not_replayed` looks
        self._producer.send_raw(topic.name, letter.key, letter.value, (*own, *marks), partition=partition)


def _number(text: str) -> int | None:
    """Return a partition, an offset or a count; None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None


def _to_end(follower: Follower, name: str) -> Iterator[ConsumedMessage]:
    deadline = time.monotonic() + READ_S
    while not follower.caught_up:
        if time.monotonic() > deadline:
            raise LettersNotRead(f"{name} could not be read within {READ_S:.0f} s")
        yield from follower.read(0.1)


def letter_of(message: Message) -> DeadLetter:
    """Return a message of dead-letters as a letter."""
    key, value, all_headers = message.key(), message.value(), headers(message)
    # the stage adds its headers last; a message may have some of the same names
    is_ours = tuple(name for name, _ in all_headers[-len(ORIGIN) :]) == ORIGIN
    partition, offset = message.partition() or 0, message.offset() or 0
    return DeadLetter(
        name_of(partition, offset),
        partition,
        offset,
        read_dead_letter(message),
        None if key is None else bytes(key),
        None if value is None else bytes(value),
        all_headers[: -len(ORIGIN)] if is_ours else all_headers,
    )
