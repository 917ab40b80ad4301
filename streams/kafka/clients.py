"""Every librdkafka client of the project and its settings.

Producers share murmur2_random, the partitioner that Java clients use by default, so that a path has one partition
whichever program produces it. A consumer that never commits still needs a group.id: its name has no effect.
"""

import uuid
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient

from streams.config import KafkaConfig
from streams.topics import MAX_GROUP_BYTES, requests_group

TRANSACTION_TIMEOUT_MS = 10_000

CLASSIC_SESSION_TIMEOUT_MS = 6000
"""The least that brokers allow by default: for this long the partitions of a killed process stand still."""

CLASSIC_HEARTBEAT_MS = 2000

MAX_BACKOFF_MS = 1000
"""Between attempts to connect. librdkafka waits up to 10 s by default; the bridge notices sooner that Kafka is back."""

PARTITIONER = "murmur2_random"

ANNOUNCING: dict[str, Any] = {"enable_idempotence": True}
"""Settings of every producer of images.new: the announcements of a path stay in order."""

OnError = Callable[[KafkaError], None]


def admin_client(kafka: KafkaConfig) -> AdminClient:
    """Make a client for topics, groups and offsets."""
    # a look must not make a topic
    return AdminClient(kafka.client(allow_auto_create_topics=False))


# consumers in a group


def stage_consumer(kafka: KafkaConfig, stage: str, on_error: OnError | None = None) -> Consumer:
    """Make the consumer of a stage's input, in the stage's group; offsets are committed by the transaction.

    on_error  gets connection errors, during a poll
    """
    settings = _in_group(
        kafka,
        kafka.group(stage),
        enable_auto_commit=False,
        enable_auto_offset_store=False,
        isolation_level="read_committed",
        auto_offset_reset=kafka.start_from or "error",
    )
    return Consumer(settings | ({"error_cb": on_error} if on_error else {}))


def requests_consumer(kafka: KafkaConfig, stage: str, *, shared: bool) -> Consumer:
    """Make the consumer of a stage's requests.

    shared  in the group that the stage's processes share; otherwise it is assigned partitions and commits nothing
    """
    # a process that starts answers the requests that already wait, except those past their deadline
    settings = _in_group(
        kafka,
        requests_group(kafka, stage),
        enable_auto_commit=shared,
        auto_offset_reset="earliest",
        allow_auto_create_topics=False,
    )
    return Consumer(settings)


def events_consumer(kafka: KafkaConfig, topic: str) -> Consumer:
    """Make a consumer of another program's events, in a group of ours; the caller commits."""
    settings = _in_group(
        kafka,
        kafka.topic(f"produce.{topic}"),
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        allow_auto_create_topics=False,
    )
    return Consumer(settings)


def group_offsets_client(kafka: KafkaConfig, stage: str) -> Consumer:
    """Make a client that reads and commits a group's offsets and never joins the group."""
    settings = kafka.client(group_id=kafka.group(stage), enable_auto_commit=False, isolation_level="read_committed")
    return Consumer(settings)


def _in_group(kafka: KafkaConfig, group: str, **more: Any) -> dict[str, Any]:
    settings = kafka.client(group_id=group, group_protocol=kafka.group_protocol, **more)
    if kafka.group_protocol == "classic":
        settings["partition.assignment.strategy"] = "cooperative-sticky"
        settings.setdefault("session.timeout.ms", CLASSIC_SESSION_TIMEOUT_MS)
        settings.setdefault("heartbeat.interval.ms", CLASSIC_HEARTBEAT_MS)
    return settings


# consumers without a group


def log_consumer(kafka: KafkaConfig, group_id: str) -> Consumer:
    """Make a consumer of assigned partitions, committed records only, which reports each partition's end."""
    settings = kafka.client(
        group_id=group_id,
        enable_auto_commit=False,
        enable_partition_eof=True,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    return Consumer(settings)


def replies_consumer(kafka: KafkaConfig, on_error: OnError) -> Consumer:
    """Make the consumer of one partition of replies; `on_error` gets connection errors, on another thread."""
    settings = kafka.client(
        group_id=kafka.topic("request-client"),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        allow_auto_create_topics=False,
        reconnect_backoff_max_ms=MAX_BACKOFF_MS,
    )
    return Consumer(settings | {"error_cb": on_error})


# producers


def transactional_producer(
    kafka: KafkaConfig, stage: str, make: Callable[[dict[str, Any]], Producer] = Producer
) -> Producer:
    """Make the producer of a stage's outputs, with a transactional id of this process."""
    shard = kafka.shard.name if stage == "search" else ""
    settings = kafka.client(
        transactional_id="-".join(filter(None, (kafka.topic(stage), shard, kafka.member or str(uuid.uuid4())))),
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        partitioner=PARTITIONER,
        linger_ms=2,
        message_max_bytes=2 * MAX_GROUP_BYTES,
    )
    return make(settings)


def announcing_producer(kafka: KafkaConfig, **more: Any) -> Producer:
    """Make a producer for images.new, for many announcements at a time."""
    return Producer(kafka.client(partitioner=PARTITIONER, linger_ms=2, **ANNOUNCING, **more))


def prompt_producer(kafka: KafkaConfig, on_error: OnError | None = None, **more: Any) -> Producer:
    """Make a producer whose messages leave at once; `on_error` gets connection errors, on another thread."""
    # socket_nagle_disable: the kernel holds no message back until the one before is acknowledged
    settings = kafka.client(linger_ms=0, socket_nagle_disable=True, partitioner=PARTITIONER, **more)
    return Producer(settings | ({"error_cb": on_error} if on_error else {}))


def states_producer(kafka: KafkaConfig, timeout_s: float) -> Producer:
    """Make the producer of stage states, which drops what is not delivered within `timeout_s`."""
    settings = kafka.client(linger_ms=0, acks="1", partitioner=PARTITIONER, message_timeout_ms=int(1000 * timeout_s))
    return Producer(settings)
