"""What people have decided up to now, read from the topic `decisions` without a group."""

import logging
import time

from confluent_kafka import KafkaError, KafkaException

from imagetools.errors import MessageError, PrerequisiteMissing
from schemas.group_records import DecisionRecord
from streams.config import KafkaConfig
from streams.kafka.errors import NOT_READY, RECONNECTS, BrokerAway, describe, no_topic
from streams.kafka.log_reader import LogReader
from streams.standing_decisions import StandingDecisions, check
from streams.topics import DECISIONS

log = logging.getLogger(__name__)

SILENCE_S = 30.0
"""Kafka counts as away when a message that must be there has not arrived for this long."""


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

        PrerequisiteMissing where there is no such topic; BrokerAway where it cannot be read now; KafkaException.
        """
        try:
            self._catch_up()
        except KafkaException as exc:
            error: KafkaError = exc.args[0]
            if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise PrerequisiteMissing(no_topic(self._kafka.topic(DECISIONS.name))) from exc
            if error.code() in RECONNECTS | NOT_READY:
                raise BrokerAway(f"decisions cannot be read: {describe(self._kafka, error)}") from exc
            raise
        return self._decisions

    def close(self) -> None:
        """Close the connection."""
        if self._reader is not None:
            self._reader.close()

    def _catch_up(self) -> None:
        if self._reader is None:
            self._reader = LogReader(self._kafka, DECISIONS.name, DecisionRecord, 0)
        end, heard = self._reader.end(), time.monotonic()
        for received in self._reader.read(self._next, end, patient=True):
            if received is None:
                if time.monotonic() - heard > SILENCE_S:
                    raise BrokerAway(f"decisions cannot be read: none has arrived for {SILENCE_S:.0f} s")
                continue
            self._next, heard = received.offset + 1, time.monotonic()
            try:
                if received.record is not None:
                    check(received.record)
                self._decisions.put(received.path, received.offset, received.record)
            except MessageError as exc:
                # the grouping stage makes a dead letter of it
                log.debug("matcher: decision at offset %d: %s", received.offset, exc)
        self._next = max(self._next, end)
