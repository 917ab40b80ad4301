"""A producer whose messages commit together with the offsets of their inputs."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from schemas.codec import Codec
from streams.config import KafkaConfig
from streams.kafka import clients
from streams.kafka.errors import ErrorLog, told
from streams.kafka.stuck_calls import StuckCalls, ignore_trouble
from streams.stage import Headers, Output

log = logging.getLogger(__name__)

INIT_TIMEOUT_S = 60.0
ATTEMPT_S = 10.0
"""For one attempt to begin; there are more for as long as Kafka is away."""

POLL_S = 0.1

BY_KEY = -1
"""For a partition: the one that the partitioner chooses by the key, librdkafka's PARTITION_UA."""


class TransactionalProducer:
    """Sends and commits one transaction after the other.

    `begin`, `commit` and `abort` raise KafkaException for what repeating the call does not solve; its error's
    `txn_requires_abort` tells whether the transaction can be aborted. A call that never returns ends the process.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        stage: str,
        codec: Codec,
        make: Callable[[dict[str, Any]], Producer] = Producer,
        on_trouble: Callable[[str], None] = ignore_trouble,
    ) -> None:
        """make: the class of the client; on_trouble: called on another thread with why Kafka takes nothing."""
        self._on_trouble = on_trouble
        self._kafka = kafka
        self._codec = codec
        self._producer = clients.transactional_producer(kafka, stage, make)
        self._broker_errors = ErrorLog(stage)
        self._watch: StuckCalls | nullcontext[None] = nullcontext()

    def start(self) -> None:
        """Abort what a predecessor with the same transactional id left open, and fence it."""
        self._watch = StuckCalls(self._kafka, on_trouble=self._on_trouble)
        self._until_done(lambda: self._producer.init_transactions(ATTEMPT_S))

    @property
    def trouble(self) -> str:
        """Why Kafka takes nothing; empty when it does, as far as is known."""
        return self._watch.trouble if isinstance(self._watch, StuckCalls) else ""

    def doubt(self, error: KafkaError) -> None:
        """Look whether Kafka answers: another client of this process has an error about a broker."""
        self._broker_errors.note(told(error))
        if isinstance(self._watch, StuckCalls):
            self._watch.doubt()

    def begin(self) -> None:
        """Begin a transaction."""
        self._producer.begin_transaction()

    def send(self, output: Output, headers: Headers) -> None:
        """Produce a record with the headers of its input and its own. RegistryAway, KafkaException."""
        topic = self._kafka.topic(output.topic.name)
        value = None if output.record is None else self._codec.encode(topic, output.record)
        for partition in self._partitions(topic) if output.everywhere else (BY_KEY,):
            own = (*headers, *output.headers)
            self._produce(topic, output.path.encode(), value, own, output.timestamp, partition)

    def _partitions(self, topic: str) -> list[int]:
        found = self._producer.list_topics(topic, timeout=INIT_TIMEOUT_S).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return list(found.partitions)

    def send_raw(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, *, partition: int = BY_KEY
    ) -> None:
        """Produce a message as it is; `topic` without the prefix."""
        self._produce(self._kafka.topic(topic), key, value, headers, None, partition)

    def commit(self, offsets: list[TopicPartition], generation: Any) -> None:
        """Commit the messages and the offsets, for a member of the group at that generation."""
        self._until_done(lambda: self._producer.send_offsets_to_transaction(offsets, generation))
        self._until_done(self._producer.commit_transaction)

    def commit_messages(self) -> None:
        """Commit the messages of a program that reads in no group."""
        self._until_done(self._producer.commit_transaction)

    def abort(self) -> None:
        """Abort the transaction."""
        self._until_done(self._producer.abort_transaction)

    def close(self) -> None:
        """Stop watching for calls that never return."""
        if isinstance(self._watch, StuckCalls):
            self._watch.close()

    def _produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        timestamp: int | None,
        partition: int = BY_KEY,
    ) -> None:
        where = {"partition": partition} if timestamp is None else {"partition": partition, "timestamp": timestamp}
        while True:
            try:
                self._producer.produce(topic, value, key, headers=list(headers), **where)  # type: ignore[arg-type]
                return
            except BufferError:
                # the client's queue is full: some of it is delivered meanwhile, or fails at the transaction's timeout
                self._producer.poll(POLL_S)

    def _until_done(self, call: Callable[[], object]) -> None:
        """Repeat a call while its error is retriable: librdkafka's rule for transactions."""
        while True:
            try:
                with self._watch:
                    call()
                return
            except KafkaException as exc:
                if not exc.args[0].retriable() or exc.args[0].txn_requires_abort():
                    raise
                log.warning("trying again: %s", exc.args[0].str())
