"""Following topics from a point on, as a reader of committed records without a group."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from imagetools.errors import MessageError, PrerequisiteMissing
from schemas.codec import codec
from streams.config import KafkaConfig
from streams.kafka.messages import headers
from streams.topics import Topic, end_offsets

log = logging.getLogger(__name__)

FETCH = 500
REACH_S = 4.0

COMES_BACK = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.NETWORK_EXCEPTION,
}
"""What the client says of a broker that is away, and gets over by itself."""


@dataclass(frozen=True)
class Seen:
    """One message: its topic's definition, and the record, where the topic holds records and the message has a value.

    wrong  why the message is not what its topic holds
    """

    topic: Topic
    record: Any
    message: Message
    wrong: MessageError | None = None


class Follower:
    """Reads topics side by side, from their beginning or their end.

    A message that is not what its topic holds is passed over with a warning.
    PrerequisiteMissing where a topic does not exist.

    starts  the offset that each partition is read from, by the topic's name on the cluster
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        topics: Sequence[Topic],
        *,
        from_beginning: bool = False,
        last: int = 0,
        goes_on: Mapping[tuple[str, int], int] | None = None,
        patient: bool = False,
        whole: bool = False,
    ) -> None:
        """Nothing is read yet.

        last     begin so many messages before the end of each partition, markers of transactions counted, too
        goes_on  begin at these offsets instead, by the topic's name on the cluster and the partition
        patient  wait for a broker that goes away, however long; otherwise that is a KafkaException
        whole    give messages that are not what their topic holds, too
        """
        self._whole = whole
        self._patient = patient
        self._topics = {kafka.topic(topic.name): topic for topic in topics}
        self._codec = codec(kafka.registry)
        self._consumer = Consumer(
            kafka.client(
                # the client wants a name; nothing is ever committed under it
                group_id=kafka.topic("follow"),
                enable_auto_commit=False,
                enable_partition_eof=True,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
            )
        )
        admin = AdminClient(kafka.client())
        try:
            firsts = _offsets(admin, self._topics, earliest=True)
            ends = firsts if from_beginning else _offsets(admin, self._topics)
            starts = {place: max(first, ends[place] - last) for place, first in firsts.items()}
            self._whole_log = starts == firsts
            self.starts = starts | {place: offset for place, offset in (goes_on or {}).items() if place in starts}
            self._consumer.assign([TopicPartition(*place, offset) for place, offset in self.starts.items()])
            self._not_at_end = set(self.starts)
        except KafkaException as exc:
            self._consumer.close()
            raise missing(kafka, exc) from exc

    @property
    def whole_log(self) -> bool:
        """Whether it began where the topics do."""
        return self._whole_log

    @property
    def caught_up(self) -> bool:
        """Whether the end of every partition has been reached once."""
        return not self._not_at_end

    def read(self, timeout_s: float) -> Iterator[Seen]:
        """What has come; waits at most `timeout_s` for the first. KafkaException, RegistryAway."""
        first = self._consumer.poll(timeout_s)
        # a message without a value is false
        messages = [] if first is None else [first, *self._consumer.consume(FETCH, 0)]
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    self._not_at_end.discard((message.topic() or "", message.partition() or 0))
                elif error.fatal() or not (error.retriable() or (self._patient and error.code() in COMES_BACK)):
                    raise KafkaException(error)
                continue
            topic = self._topics[message.topic() or ""]
            value = message.value()
            kind: type[Any] | None = topic.kind
            try:
                record = self._codec.decode(message.topic() or "", kind, value) if kind and value else None
            except MessageError as exc:
                if self._whole:
                    yield Seen(topic, None, message, exc)
                else:
                    log.warning("%s, partition %s, offset %s: %s", *_place(message), exc)
                continue
            yield Seen(topic, record, message)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()


def _offsets(admin: AdminClient, names: Iterable[str], *, earliest: bool = False) -> dict[tuple[str, int], int]:
    return {
        (name, number): offset
        for name in names
        for number, offset in end_offsets(admin, name, earliest=earliest).items()
    }


def _place(message: Message) -> tuple[str | None, int | None, int | None]:
    return message.topic(), message.partition(), message.offset()


def reach(kafka: KafkaConfig) -> KafkaConfig:
    """The same cluster, quietly: what goes wrong is said by errors, not by the client's own log.

    PrerequisiteMissing where none answers within REACH_S.
    """
    quiet = replace(kafka, settings={"log_level": "2", **kafka.settings})
    try:
        AdminClient(quiet.client()).list_topics(timeout=REACH_S)
    except KafkaException as exc:
        raise missing(kafka, exc) from exc
    return quiet


def require(kafka: KafkaConfig, *topics: Topic) -> None:
    """Check that topics are there. PrerequisiteMissing where one is not."""
    admin = AdminClient(kafka.client())
    try:
        for topic in topics:
            end_offsets(admin, kafka.topic(topic.name))
    except KafkaException as exc:
        raise missing(kafka, exc) from exc


def missing(kafka: KafkaConfig, exc: KafkaException) -> Exception:
    """What a person can do about a Kafka error at start."""
    error: KafkaError = exc.args[0]
    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return PrerequisiteMissing(
            f"the topics are not on {kafka.bootstrap} (prefix {kafka.prefix!r}): run `imagetools topics create`"
        )
    if error.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN):
        return PrerequisiteMissing(
            f"no Kafka answers at {kafka.bootstrap}: `imagetools up` or `imagetools kafka start` starts one here, "
            "KAFKA_BOOTSTRAP_SERVERS names another"
        )
    return exc


def dead_letter(message: Message) -> dict[str, str]:
    """A dead letter's path, reason, origin and time, from its key and headers."""
    told = {name: (value or b"").decode("utf-8", "replace") for name, value in headers(message)}
    key = message.key()
    path = bytes(key).decode("utf-8", "replace") if key is not None else ""
    names = ("stage", "topic", "partition", "offset", "error-type", "error-message")
    time = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC).isoformat(timespec="milliseconds")
    letter = {"relative_path": path} | {name.replace("-", "_"): told.get(name, "") for name in names}
    return letter | {"time": time}
