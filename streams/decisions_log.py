"""What people have decided up to now, read from the topic `decisions` without a group."""

import logging
import time

from confluent_kafka import KafkaException

from imagetools.errors import MessageError
from schemas.group_records import DecisionRecord
from streams.config import KafkaConfig
from streams.kafka.errors import NOT_READY, RECONNECTS
from streams.kafka.log_reader import LogReader
from streams.standing_decisions import StandingDecisions, check
from streams.topics import DECISIONS

log = logging.getLogger(__name__)

RETRY_S = 1.0


class DecisionsLog:
    """Follows the decisions; for one thread."""

    def __init__(self, kafka: KafkaConfig) -> None:
        """Read nothing yet."""
        self._kafka = kafka
        self._reader: LogReader[DecisionRecord] | None = None
        self._decisions = StandingDecisions()
        self._next = 0

    def read(self) -> StandingDecisions:
        """Return what stands, with every decision that is on the topic when this is called.

        Waits while Kafka is away. KafkaException for other errors, such as a missing topic.
        """
        while True:
            try:
                self._catch_up()
                return self._decisions
            except KafkaException as exc:
                if exc.args[0].code() not in RECONNECTS | NOT_READY:
                    raise
                log.warning("matcher: the decisions cannot be read: %s; trying again", exc.args[0].str())
                time.sleep(RETRY_S)

    def close(self) -> None:
        """Close the connection."""
        if self._reader is not None:
            self._reader.close()

    def _catch_up(self) -> None:
        if self._reader is None:
            self._reader = LogReader(self._kafka, DECISIONS.name, DecisionRecord, 0)
        end = self._reader.end()
        for received in self._reader.read(self._next, end, patient=True):
            if received is None:
                continue
            self._next = received.offset + 1
            try:
                if received.record is not None:
                    check(received.record)
                self._decisions.put(received.path, received.offset, received.record)
            except MessageError as exc:
                # the grouping stage makes a dead letter of it
                log.debug("matcher: decision at offset %d: %s", received.offset, exc)
        self._next = max(self._next, end)
