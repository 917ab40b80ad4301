"""How far each stage is behind, measured from outside."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.config import KafkaConfig
from streams.kafka import clients
from streams.kafka.admin import GroupOffsets, end_offsets, shard_groups
from streams.kafka.authorization import REFUSALS
from streams.kafka.errors import of_unused_group
from streams.kafka.topic_facts import group_names
from streams.sharding.shards import Shard, shards_named
from streams.topics import ALSO_READS, READS, Topic

COUNT_TIMEOUT_S = 5.0
"""For one call. A client older than its restarted broker may wait for an answer that never comes, and its process must
be able to stop meanwhile."""

MAX_COUNTED = 1000
"""Above this the lag is a difference of offsets, which includes the markers of transactions."""

Stretch = tuple[int, int, int]
"""Partition, committed offset, end offset."""


@dataclass(frozen=True)
class StageLag:
    """The lag of one stage.

    topic    that the stage reads, by its name on the cluster; several with commas
    lag      messages that wait
    rate     messages taken in a second, since the previous sample
    members  processes in the stage's group
    shards   of a search in shards: each of them; the search's own lag is that of the slowest
    """

    stage: str
    topic: str
    lag: int
    rate: float
    members: int
    shards: tuple["StageLag", ...] = ()


class LagSampler:
    """Samples the lag of all stages; for one thread."""

    def __init__(self, kafka: KafkaConfig, reads: Mapping[str, Topic] = READS) -> None:
        """reads: the topic that each stage reads."""
        self._kafka = kafka
        self._reads = {stage: (topic, *ALSO_READS.get(stage, ())) for stage, topic in reads.items()}
        self._admin = clients.admin_client(kafka)
        self._groups: dict[tuple[str, str], GroupOffsets] = {}
        self._counter = clients.log_consumer(kafka, kafka.topic("lag"))
        self._previous: dict[str, tuple[float, int]] = {}
        self._counted: dict[tuple[str, str], tuple[tuple[Stretch, ...], int]] = {}

    def sample(self) -> list[StageLag]:
        """Return the lag of each stage; in the first sample, rates are 0.

        KafkaException when Kafka or a topic is missing.
        """
        return [self._sample_search() if stage == "search" else self._sample(stage) for stage in self._reads]

    def close(self) -> None:
        """Close the connections."""
        self._counter.close()
        for group in self._groups.values():
            group.close()

    def _sample_search(self) -> StageLag:
        names = group_names(self._kafka)
        whole = replace(self._kafka, shard=Shard())
        counts = {shard.count for shard in shards_named(whole.group("search"), names)}
        count = max(counts, default=1)
        if len(counts) > 1:
            # others follow the log beside those that answer
            count = shard_groups(self._kafka).answering or count
        members = replace(self._kafka, shard=Shard(0, count)).shards
        if count == 1:
            return self._sample("search")
        shards = tuple(replace(self._sample("search", one), stage=f"search {one.shard}") for one in members)
        rate = min(one.rate for one in shards)
        lag = max(one.lag for one in shards)
        return StageLag("search", shards[0].topic, lag, rate, sum(one.members for one in shards), shards)

    def _sample(self, stage: str, kafka: KafkaConfig | None = None) -> StageLag:
        kafka = kafka or self._kafka
        group = kafka.group(stage)
        done, lag = 0, 0
        for topic in self._reads[stage]:
            name = kafka.topic(topic.name)
            if (group, topic.name) not in self._groups:
                self._groups[group, topic.name] = GroupOffsets(kafka, stage, topic)
            committed = self._groups[group, topic.name].read()
            done += sum(committed.values())
            lag += self._lag((group, name), committed, end_offsets(self._admin, name))
        now = time.monotonic()
        then, done_then = self._previous.get(group, (now, done))
        self._previous[group] = now, done
        rate = max(0.0, (done - done_then) / (now - then)) if now > then else 0.0
        topics = ", ".join(kafka.topic(topic.name) for topic in self._reads[stage])
        return StageLag(stage, topics, lag, rate, self._members(group))

    def _lag(self, read: tuple[str, str], committed: dict[int, int], ends: dict[int, int]) -> int:
        """Count the messages after the committed offsets of a group in a topic.

        A transaction's marker has an offset, too, so a difference of offsets need not be a message. A small difference
        is therefore counted by reading the log.
        """
        waiting = tuple((n, committed.get(n, 0), end) for n, end in ends.items() if end > committed.get(n, 0))
        lag = sum(end - start for _, start, end in waiting)
        if not waiting or lag > MAX_COUNTED:
            return lag
        known = self._counted.get(read)
        if known is None or known[0] != waiting:
            parts = [TopicPartition(read[1], number, start) for number, start, _ in waiting]
            known = self._counted[read] = waiting, self._count(parts)
        return known[1]

    def _count(self, parts: list[TopicPartition]) -> int:
        """Count the messages from these offsets to the end of each partition."""
        self._counter.assign(parts)
        left, found = len(parts), 0
        deadline = time.monotonic() + COUNT_TIMEOUT_S
        while left and time.monotonic() < deadline:
            for message in self._counter.consume(500, 0.1):
                error = message.error()
                if error is None:
                    found += 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    left -= 1
                elif error.code() in REFUSALS and not of_unused_group(error):
                    raise KafkaException(error)
        self._counter.unassign()
        return found

    def _members(self, name: str) -> int:
        (described,) = self._admin.describe_consumer_groups([name], request_timeout=COUNT_TIMEOUT_S).values()
        try:
            return len(described.result().members)
        except KafkaException as exc:
            if exc.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return 0
            raise
