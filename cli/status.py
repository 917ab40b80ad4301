"""How far each stage is."""

import time
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.table import Table

from cli.follow import missing
from streams.config import KafkaConfig
from streams.topics import READS, TIMEOUT_S, GroupOffsets, end_offsets

SAMPLE_S = 2.0
PROBE_S = 5.0


@dataclass(frozen=True)
class Standing:
    """One stage: messages not yet taken, messages taken in a second, and how many processes share the work."""

    stage: str
    topic: str
    lag: int
    rate: float
    members: int


def standings(kafka: KafkaConfig) -> list[Standing]:
    """Of each stage, sampled over SAMPLE_S. PrerequisiteMissing where there is no Kafka or no topic."""
    admin = AdminClient(kafka.client())
    groups = {stage: GroupOffsets(kafka, stage) for stage in READS}
    try:
        before = {stage: group.read() for stage, group in groups.items()}
        began = time.monotonic()
        time.sleep(SAMPLE_S)
        after = {stage: group.read() for stage, group in groups.items()}
        seconds = time.monotonic() - began
        return [
            Standing(
                stage,
                kafka.topic(topic.name),
                _lag(kafka, kafka.topic(topic.name), after[stage], end_offsets(admin, kafka.topic(topic.name))),
                sum(after[stage].values()) / seconds - sum(before[stage].values()) / seconds,
                _members(admin, kafka, stage),
            )
            for stage, topic in READS.items()
        ]
    except KafkaException as exc:
        raise missing(kafka, exc) from exc
    finally:
        for group in groups.values():
            group.close()


def show(kafka: KafkaConfig) -> None:
    """Print a table of all stages."""
    table = Table("stage", "reads", "processes", "lag", "rate")
    for one in standings(kafka):
        table.add_row(one.stage, one.topic, str(one.members), f"{one.lag:,}", f"{one.rate:,.0f}/s")
    Console().print(table)


def _lag(kafka: KafkaConfig, topic: str, committed: dict[int, int], ends: dict[int, int]) -> int:
    """Messages after the committed offsets.

    Transaction markers take offsets, too, so a difference need not mean a message: where one is left, the log is read
    from there to its end.
    """
    open_parts = [TopicPartition(topic, n, committed.get(n, 0)) for n, end in ends.items() if end > committed.get(n, 0)]
    lag = sum(ends[part.partition] - part.offset for part in open_parts)
    if not open_parts or lag > 1000:
        return lag
    consumer = Consumer(
        kafka.client(
            group_id=f"{topic}-status",
            enable_auto_commit=False,
            enable_partition_eof=True,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
    )
    try:
        consumer.assign(open_parts)
        left, found = len(open_parts), 0
        deadline = time.monotonic() + PROBE_S
        while left and time.monotonic() < deadline:
            for message in consumer.consume(500, 0.1):
                error = message.error()
                if error is None:
                    found += 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    left -= 1
        return found
    finally:
        consumer.close()


def _members(admin: AdminClient, kafka: KafkaConfig, stage: str) -> int:
    name = kafka.topic(stage)
    (described,) = admin.describe_consumer_groups([name], request_timeout=TIMEOUT_S).values()
    try:
        return len(described.result().members)
    except KafkaException as exc:
        if exc.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return 0
        raise
