"""Reads a range of one partition once, without a group."""

import logging
from collections.abc import Iterator
from typing import Generic

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from imagetools.errors import MessageError
from schemas.codec import R, codec
from streams.config import KafkaConfig
from streams.kafka import clients
from streams.kafka.admin import end_offsets
from streams.kafka.authorization import REFUSALS
from streams.kafka.errors import of_unused_group
from streams.kafka.messages import coordinates, read_message
from streams.kafka.topic_facts import log_id
from streams.stage import Received

log = logging.getLogger(__name__)

FETCH = 500


class LogReader(Generic[R]):
    """Reads ranges of one partition, committed records only.

    log_id  of the topic: one that was deleted and made again has another
    """

    def __init__(self, kafka: KafkaConfig, topic: str, kind: type[R], partition: int) -> None:
        """KafkaException when the topic is missing."""
        self._kind: type[R] = kind
        self._topic = topic
        self._name = kafka.topic(topic)
        self._partition = partition
        self._codec = codec(kafka.registry)
        self._admin = clients.admin_client(kafka)
        self.log_id = log_id(self._admin, self._name)
        self._consumer = clients.log_consumer(kafka, f"{self._name}-replay")

    def end(self) -> int:
        """Return the offset after the partition's last message, committed or not."""
        return end_offsets(self._admin, self._name)[self._partition]

    def read(self, start: int, end: int, *, patient: bool = False) -> Iterator[Received[R] | None]:
        """Yield the records at offsets from `start` to below `end`; None while the next has not arrived.

        Transaction markers and compaction take offsets, so the record before `end` may not exist. The range ends at
        the first record at or past `end`, or at the end of the partition.
        patient  where an open transaction hides records before `end`, wait until it has ended; `end` exists
        """
        if start >= end:
            return
        self._consumer.assign([TopicPartition(self._name, self._partition, start)])
        while True:
            messages = self._consumer.consume(FETCH, 0.05)
            if not messages:
                yield None
            for message in messages:
                at_end, offset = self._at_end(message), message.offset() or 0
                if offset >= end or (at_end and not patient):
                    return
                received = None if message.error() else self._decode(message)
                if received is not None:
                    yield received

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def _at_end(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            return True
        if of_unused_group(error):
            return False
        if error.code() not in REFUSALS and (error.retriable() or not error.fatal()):
            log.warning("replay: %s", error.str())
            return False
        raise KafkaException(error)

    def _decode(self, message: Message) -> Received[R] | None:
        try:
            return read_message(message, self._codec, self._kind, self._topic)
        except MessageError as exc:
            # it became a dead letter when the stage first read it
            log.debug("offset %s: %s", message.offset(), exc, extra=coordinates(message))
            return None
