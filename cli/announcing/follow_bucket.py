"""`imagetools produce --from-topic`: announce images as a bucket's notifications tell of them.

At least once: a batch's offsets are committed when the broker has all of its announcements. After a crash some come
again, in their order. An image that is announced again with the same bytes causes no alert, and one that is gone is
gone already, so the result is the same.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from cli.announcing.announce import Announcer, NotDelivered
from cli.announcing.bucket_events import BadEvent, BucketEvents, ObjectChange, PassedOver
from cli.announcing.sources import NamedImage
from cli.standard_error import say
from cli.stop_signals import StopSignals
from imagetools.errors import ImageError, ImageRootUnavailable, MissingImage
from imagetools.image_root import ImageRoot
from streams.config import KafkaConfig
from streams.kafka.clients import announcing_producer, events_consumer
from streams.kafka.dead_letters import MAX_DEAD_LETTER_BYTES, ORIGIN
from streams.topics import DEAD_LETTERS
from streams.traces.base import NO_TRACES, Traces

STAGE = "produce"
"""Named in the dead letters of messages that are no events."""

BATCH = 256
POLL_S = 0.5
FLUSH_S = 60.0
RETRY_S = 5.0
SAY_EVERY_S = 10.0


Outcome = Sequence[ObjectChange | PassedOver] | BadEvent
"""What a message says."""


@dataclass
class FollowedEvents:
    """Counts what became of the events, and says so now and then."""

    announced: int = 0
    gone: int = 0
    letters: int = 0
    passed: Counter[str] = field(default_factory=Counter)
    _said: str = ""
    _due: float = 0.0

    def pass_over(self, event: PassedOver) -> None:
        """Count an event that concerns no image; name the first of each kind."""
        if event.kind not in self.passed:
            say(f"passed over: {event.what}, the first {event.kind}")
        self.passed[event.kind] += 1

    def say(self, *, now: bool = False) -> None:
        """Print the counts, if they are new."""
        words = f"{self.announced:,} announced, {self.gone:,} gone, {self.letters:,} dead letters"
        words += "".join(f", {count:,} {kind}" for kind, count in sorted(self.passed.items()))
        if words != self._said and (now or time.monotonic() > self._due):
            say(words)
            self._said, self._due = words, time.monotonic() + SAY_EVERY_S


def follow_bucket(
    kafka: KafkaConfig,
    topic: str,
    root: str,
    *,
    alert: bool = True,
    metadata: Mapping[str, str] | None = None,
    images: ImageRoot | None = None,
    traces: Traces = NO_TRACES,
) -> FollowedEvents:
    """Announce what the notifications on a topic tell, until Ctrl-C.

    topic  its name on the cluster, without our prefix
    root   where the service's images are
    ConfigError where that is no bucket; NotDelivered, KafkaException.
    """
    events, store = BucketEvents(root), images or ImageRoot(root)
    announcer, found = Announcer(kafka, traces=traces), FollowedEvents()
    announcer.check_registry()
    letters = DeadLetters(kafka)
    with StopSignals() as signals, closing(events_consumer(kafka, topic)) as consumer:
        consumer.subscribe([topic])
        say(f"follows {topic} for images in {root}; Ctrl-C ends it")
        signals.defer("finishing the events that were read")
        while not signals.requested:
            batch = _good(consumer.consume(BATCH, POLL_S), topic)
            if batch:
                outcomes = [_outcome(events, message) for message in batch]
                try:
                    changes = _changes(outcomes, store)
                except ImageRootUnavailable as exc:
                    say(f"waiting: {exc}")
                    _rewind(consumer, batch)
                    time.sleep(RETRY_S)
                    continue
                _announce(announcer, changes, alert, metadata or {}, found)
                _note_others(batch, outcomes, letters, found)
                _commit(consumer, batch)
            found.say()
        found.say(now=True)
    return found


def _good(messages: Iterable[Message], topic: str) -> list[Message]:
    """Return the messages that are none of the client's errors; raise what does not pass."""
    good = []
    for message in messages:
        error = message.error()
        if error is None:
            good.append(message)
        elif error.fatal() or error.code() in (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.GROUP_AUTHORIZATION_FAILED,
        ):
            raise KafkaException(error)
        else:
            say(f"{topic}: {error.str()}")
    return good


def _outcome(events: BucketEvents, message: Message) -> Outcome:
    try:
        return events.read(message.value())
    except BadEvent as exc:
        return exc


def _changes(outcomes: Sequence[Outcome], store: ImageRoot) -> list[ObjectChange]:
    """Return what to announce. ImageRootUnavailable."""
    told = [event for outcome in outcomes if not isinstance(outcome, BadEvent) for event in outcome]
    return [
        ObjectChange(event.path, event.gone and _is_gone(store, event.path))
        for event in told
        if isinstance(event, ObjectChange)
    ]


def _note_others(
    batch: Sequence[Message], outcomes: Sequence[Outcome], letters: "DeadLetters", found: FollowedEvents
) -> None:
    """Count what is not announced, and set aside what is no event. NotDelivered."""
    for message, outcome in zip(batch, outcomes, strict=True):
        if isinstance(outcome, BadEvent):
            letters.write(message, outcome)
            found.letters += 1
            continue
        for event in outcome:
            if isinstance(event, PassedOver):
                found.pass_over(event)
    letters.flush()


def _is_gone(store: ImageRoot, path: str) -> bool:
    """Return whether an object that was removed is not there: an older version was, or it has come back since."""
    try:
        store.status(path)
    except MissingImage:
        return True
    except ImageError:
        # the encoder says what is wrong with it
        return False
    return False


def _announce(
    announcer: Announcer,
    changes: Sequence[ObjectChange],
    alert: bool,
    metadata: Mapping[str, str],
    found: FollowedEvents,
) -> None:
    first = int(time.time() * 1000)
    for gone, alike in groupby(changes, key=lambda change: change.gone):
        images = [NamedImage(change.path, {} if gone else metadata) for change in alike]
        first += announcer.announce(images, alert=alert and not gone, gone=gone, first=first)
        if gone:
            found.gone += len(images)
        else:
            found.announced += len(images)


def _commit(consumer: Consumer, batch: Sequence[Message]) -> None:
    ends = {(m.topic() or "", m.partition() or 0): (m.offset() or 0) + 1 for m in batch}
    try:
        consumer.commit(offsets=[TopicPartition(*place, end) for place, end in ends.items()], asynchronous=False)
    except KafkaException as exc:
        # another process has the partitions now, and announces these again
        say(f"offsets are not committed, so these events come again: {exc.args[0].str()}")


def _rewind(consumer: Consumer, batch: Sequence[Message]) -> None:
    for message in reversed(batch):
        consumer.seek(TopicPartition(message.topic() or "", message.partition() or 0, message.offset() or 0))


class DeadLetters:
    """Sets messages aside that are no events, with their origin and the reason."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._topic = kafka.topic(DEAD_LETTERS.name)
        self._producer = announcing_producer(kafka)

    def write(self, message: Message, reason: BadEvent) -> None:
        """Send one, and name it."""
        origin = (STAGE, message.topic(), message.partition(), message.offset(), type(reason).__name__, reason)
        say(f"dead letter: {message.topic()} partition {message.partition()} offset {message.offset()}: {reason}")
        headers = [(name, str(value).encode()) for name, value in zip(ORIGIN, origin, strict=True)]
        value = message.value()
        self._producer.produce(
            self._topic,
            None if value is None else bytes(value)[:MAX_DEAD_LETTER_BYTES],
            message.key(),
            headers=[*(message.headers() or ()), *headers],
        )

    def flush(self) -> None:
        """Wait until the broker has them. NotDelivered."""
        if left := self._producer.flush(FLUSH_S):
            raise NotDelivered(f"{left} dead letters were not taken within {FLUSH_S:.0f} s")
