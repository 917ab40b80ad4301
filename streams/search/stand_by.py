"""Keeps the index of a spare process near that of the process that owns the log, so that it can take over at once."""

import logging
import time
from collections.abc import Generator

from confluent_kafka import KafkaException

from streams.config import KafkaConfig
from streams.kafka.admin import GroupOffsets
from streams.kafka.errors import ErrorLog
from streams.search.log_index import LogIndex

FIRST_S = 3.0
LOOK_EVERY_S = 2.0
ANSWER_S = 2.0
"""For Kafka's answer: the process must be able to stop meanwhile."""


class StandBy:
    """Brings an index up to the offset that its group has committed, again and again, in small steps.

    Never further: what the owner has not committed may still be aborted, and the next owner begins there.
    """

    def __init__(self, kafka: KafkaConfig, log_index: LogIndex) -> None:
        self._kafka = kafka
        self._log_index = log_index
        self._offsets: GroupOffsets | None = None
        self._steps: Generator[str, None, None] | None = None
        # one that starts is often given the log at once
        self._due = time.monotonic() + FIRST_S
        self._errors = ErrorLog("search")

    def step(self) -> None:
        """Take one step, or look whether there is one."""
        try:
            if self._steps is not None:
                if next(self._steps, None) is None:
                    self._steps = None
            elif time.monotonic() >= self._due:
                self._due = time.monotonic() + LOOK_EVERY_S
                self._look()
        except KafkaException as exc:
            # the owner goes on without this process, which tries again
            self._steps = None
            self._errors.note(exc.args[0].str())

    def stop(self) -> None:
        """Take no more steps: this process owns the log, or ends."""
        if self._steps is not None:
            self._steps.close()
            self._steps = None
        if self._offsets is not None:
            self._offsets.close()
            self._offsets = None

    def _look(self) -> None:
        if self._offsets is None:
            self._offsets = GroupOffsets(self._kafka, "search")
        committed = self._offsets.read(ANSWER_S).get(0)
        if committed is not None and committed > (self._log_index.offset or 0):
            level = logging.INFO if self._log_index.offset is None else logging.DEBUG
            self._steps = self._log_index.restore(0, committed, level=level)
