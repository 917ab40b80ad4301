"""The progress of the stages by their committed offsets, and the health of this job's own Kafka."""

import time
from contextlib import AbstractContextManager
from types import TracebackType

from confluent_kafka import KafkaException

from local_kafka.provider import Broker
from streams.config import KafkaConfig
from streams.exit_codes import Failed
from streams.kafka.admin import GroupOffsets
from streams.kafka.pulse import Pulse
from streams.topics import READS

ANSWER_S = 2.0
LOOK_EVERY_S = 1.0


class KafkaDied(Failed):
    """The Kafka that this job started has ended."""


class StageProgress(AbstractContextManager["StageProgress"]):
    """Reads the committed offsets of all stages, without waiting for a Kafka that does not answer."""

    def __init__(self, kafka: KafkaConfig, pulse: Pulse, own: Broker | None = None) -> None:
        """own: the broker that this job started, if it did."""
        self._pulse = pulse
        self._own = own
        self._looked = 0.0
        self._groups = {stage: GroupOffsets(kafka, stage) for stage in READS}

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for group in self._groups.values():
            group.close()

    def read(self, stage: str) -> int | None:
        """Return the sum of a stage's offsets; None if Kafka does not answer."""
        if self._pulse.away:
            return None
        try:
            return sum(self._groups[stage].read(ANSWER_S).values())
        except KafkaException:
            # the pulse and the stages report lasting trouble
            return None

    def check_kafka(self) -> None:
        """Raise KafkaDied if this job's own Kafka has ended."""
        now = time.monotonic()
        if self._own is None or now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        if failure := self._own.failure():
            raise KafkaDied(failure)
