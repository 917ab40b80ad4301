"""How far each stage is, seen from outside."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.config import KafkaConfig
from streams.topics import READS, GroupOffsets, Topic, end_offsets

PROBE_S = 5.0
"""How long one question may take. A client that was there before its broker was started anew may wait for an answer
that never comes, and whoever samples must be able to stop meanwhile."""

MOST_PROBED = 1000
"""A lag above this is told from offsets alone, which count a transaction's marker as a message."""


@dataclass(frozen=True)
class Standing:
    """One stage.

    lag      messages not yet taken
    rate     messages taken in a second, since the sample before
    members  processes that share the work
    """

    stage: str
    topic: str
    lag: int
    rate: float
    members: int


class Sampler:
    """Samples all stages, each time against the time before; for one thread."""

    def __init__(self, kafka: KafkaConfig, reads: Mapping[str, Topic] = READS) -> None:
        """Nothing is read yet. reads: the stages, each with the topic that it reads."""
        self._kafka = kafka
        self._reads = reads
        self._admin = AdminClient(kafka.client())
        self._groups = {stage: GroupOffsets(kafka, stage, topic) for stage, topic in reads.items()}
        self._probe = Consumer(
            kafka.client(
                # the client wants a name; nothing is ever committed under it
                group_id=kafka.topic("standings"),
                enable_auto_commit=False,
                enable_partition_eof=True,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
            )
        )
        self._before: dict[str, tuple[float, int]] = {}
        self._probed: dict[str, tuple[tuple[tuple[int, int, int], ...], int]] = {}

    def sample(self) -> list[Standing]:
        """Of each stage; the first time, rates are 0. KafkaException where there is no Kafka or no topic."""
        return [self._standing(stage) for stage in self._reads]

    def close(self) -> None:
        """Let go of the connections."""
        self._probe.close()
        for group in self._groups.values():
            group.close()

    def _standing(self, stage: str) -> Standing:
        topic = self._kafka.topic(self._reads[stage].name)
        committed, now = self._groups[stage].read(), time.monotonic()
        done = sum(committed.values())
        then, done_then = self._before.get(stage, (now, done))
        self._before[stage] = now, done
        rate = max(0.0, (done - done_then) / (now - then)) if now > then else 0.0
        lag = self._lag(topic, committed, end_offsets(self._admin, topic))
        return Standing(stage, topic, lag, rate, self._members(stage))

    def _lag(self, topic: str, committed: dict[int, int], ends: dict[int, int]) -> int:
        """Messages after the committed offsets.

        Transaction markers take offsets, too, so a difference need not mean a message: where one is left, the log is
        read from there to its end.
        """
        open_parts = tuple(
            TopicPartition(topic, n, committed.get(n, 0)) for n, end in ends.items() if end > committed.get(n, 0)
        )
        lag = sum(ends[part.partition] - part.offset for part in open_parts)
        if not open_parts or lag > MOST_PROBED:
            return lag
        asked = tuple((part.partition, part.offset, ends[part.partition]) for part in open_parts)
        known = self._probed.get(topic)
        if known is None or known[0] != asked:
            known = self._probed[topic] = asked, self._count(list(open_parts))
        return known[1]

    def _count(self, parts: list[TopicPartition]) -> int:
        """Messages from there to the end of each partition."""
        self._probe.assign(parts)
        left, found = len(parts), 0
        deadline = time.monotonic() + PROBE_S
        while left and time.monotonic() < deadline:
            for message in self._probe.consume(500, 0.1):
                error = message.error()
                if error is None:
                    found += 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    left -= 1
        self._probe.unassign()
        return found

    def _members(self, stage: str) -> int:
        name = self._kafka.group(stage)
        (described,) = self._admin.describe_consumer_groups([name], request_timeout=PROBE_S).values()
        try:
            return len(described.result().members)
        except KafkaException as exc:
            if exc.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return 0
            raise
