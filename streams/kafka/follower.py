"""Follows topics from a given point, without a group, committed records only."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from imagetools.errors import MessageError
from schemas.codec import codec
from streams.config import KafkaConfig
from streams.kafka import clients
from streams.kafka.admin import end_offsets
from streams.kafka.errors import RECONNECTS, of_unused_group, with_remedy
from streams.kafka.messages import coordinates
from streams.topics import Topic

log = logging.getLogger(__name__)

FETCH = 500
"""Messages that one `read` takes after the first."""


@dataclass(frozen=True)
class ConsumedMessage:
    """One message of a followed topic.

    record  None: the topic holds no records, the message has no value, or it is invalid
    error   why the message is not what its topic holds
    """

    topic: Topic
    record: Any
    message: Message
    error: MessageError | None = None


class Follower:
    """Reads topics side by side.

    PrerequisiteMissing when a topic does not exist.

    starts     the offset that each partition is read from, by the topic's name on the cluster
    whole_log  whether every partition is read from its beginning
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        topics: Sequence[Topic],
        *,
        from_beginning: bool = False,
        last: int = 0,
        resume_at: Mapping[tuple[str, int], int] | None = None,
        patient: bool = False,
        include_invalid: bool = False,
    ) -> None:
        """Assign the partitions, from their ends unless told otherwise.

        last             begin this many offsets before each end; a transaction's marker has an offset, too
        resume_at        begin at these offsets instead, by the topic's name on the cluster and the partition
        patient          wait for a broker that goes away; otherwise `read` raises KafkaException
        include_invalid  return messages that are not what their topic holds; otherwise they are logged and skipped
        """
        self._include_invalid = include_invalid
        self._patient = patient
        self._topics = {kafka.topic(topic.name): topic for topic in topics}
        self._codec = codec(kafka.registry)
        self._consumer = clients.log_consumer(kafka, kafka.topic("follow"))
        admin = clients.admin_client(kafka)
        try:
            firsts = _offsets(admin, self._topics, earliest=True)
            ends = firsts if from_beginning else _offsets(admin, self._topics)
            starts = {place: max(first, ends[place] - last) for place, first in firsts.items()}
            self.whole_log = starts == firsts
            self.starts = starts | {place: offset for place, offset in (resume_at or {}).items() if place in starts}
            self._consumer.assign([TopicPartition(*place, offset) for place, offset in self.starts.items()])
        except KafkaException as exc:
            self._consumer.close()
            raise with_remedy(kafka, exc) from exc
        self._not_at_end = set(self.starts)

    @property
    def caught_up(self) -> bool:
        """Whether the end of every partition has been reached once."""
        return not self._not_at_end

    def read(self, timeout_s: float) -> Iterator[ConsumedMessage]:
        """Yield what has come; waits at most `timeout_s` for the first message. KafkaException, RegistryAway."""
        first = self._consumer.poll(timeout_s)
        # compared with None: a message without a value is false
        messages = [] if first is None else [first, *self._consumer.consume(FETCH, 0)]
        for message in messages:
            error = message.error()
            if error is not None:
                self._check(message, error)
            elif (consumed := self._decode(message)) is not None:
                yield consumed

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def _check(self, message: Message, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._not_at_end.discard((message.topic() or "", message.partition() or 0))
        elif of_unused_group(error):
            return
        elif error.fatal() or not (error.retriable() or (self._patient and error.code() in RECONNECTS)):
            raise KafkaException(error)

    def _decode(self, message: Message) -> ConsumedMessage | None:
        topic = self._topics[message.topic() or ""]
        value = message.value()
        kind: type[Any] | None = topic.kind
        try:
            record = self._codec.decode(message.topic() or "", kind, value) if kind and value else None
        except MessageError as exc:
            if self._include_invalid:
                return ConsumedMessage(topic, None, message, exc)
            place = message.topic(), message.partition(), message.offset()
            log.warning("%s, partition %s, offset %s: %s", *place, exc, extra=coordinates(message))
            return None
        return ConsumedMessage(topic, record, message)


def _offsets(admin: AdminClient, names: Iterable[str], *, earliest: bool = False) -> dict[tuple[str, int], int]:
    return {
        (name, number): offset
        for name in names
        for number, offset in end_offsets(admin, name, earliest=earliest).items()
    }
