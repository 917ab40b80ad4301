"""Reading a stretch of a log once, without a group."""

import logging
from collections.abc import Iterator
from typing import Generic

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from imagetools.errors import MessageError
from schemas.codec import R, codec
from streams.config import KafkaConfig
from streams.kafka.messages import read_message
from streams.stage import Received
from streams.topics import log_id

log = logging.getLogger(__name__)

FETCH = 500


class LogReader(Generic[R]):
    """Reads one partition of a topic from here to there, committed records only.

    log_id  of the topic as it stands on the cluster: one that was deleted and made again has another
    """

    def __init__(self, kafka: KafkaConfig, topic: str, kind: type[R], partition: int) -> None:
        self._kind: type[R] = kind
        self._name = kafka.topic(topic)
        self._partition = partition
        self._codec = codec(kafka.registry)
        admin = AdminClient(kafka.client())
        self.log_id = log_id(admin, self._name)
        self._consumer = Consumer(
            kafka.client(
                # the client wants a name; nothing is ever committed under it
                group_id=f"{self._name}-replay",
                enable_auto_commit=False,
                enable_partition_eof=True,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
            )
        )

    def read(self, start: int, end: int) -> Iterator[Received[R] | None]:
        """The records at `start` and after, those below `end`; None where none is there yet.

        Transaction markers and compaction take offsets, so the record before `end` may not exist: the stretch ends at
        the first record at or past `end`, or at the log's end.
        """
        if start >= end:
            return
        self._consumer.assign([TopicPartition(self._name, self._partition, start)])
        while True:
            messages = self._consumer.consume(FETCH, 0.05)
            if not messages:
                yield None
            for message in messages:
                if self._at_end(message) or (message.offset() or 0) >= end:
                    return
                received = self._received(message)
                if received is not None:
                    yield received

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def _at_end(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            return True
        if error.code() != KafkaError.TOPIC_AUTHORIZATION_FAILED and (error.retriable() or not error.fatal()):
            log.warning("replay: %s", error.str())
            return False
        raise KafkaException(error)

    def _received(self, message: Message) -> Received[R] | None:
        try:
            return read_message(message, self._codec, self._kind)
        except MessageError as exc:
            # it was set aside when it came; here it is passed over again
            log.debug("offset %s: %s", message.offset(), exc)
            return None
