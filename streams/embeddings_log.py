"""What the embeddings log holds: its model and dimension, by its first record, and its newest paths."""

import sys

from confluent_kafka import KafkaError, KafkaException

from imagetools.errors import ConfigError
from schemas.records import Embedding
from streams.config import Config, KafkaConfig
from streams.kafka.admin import end_offsets, shard_groups, topic_exists
from streams.kafka.clients import admin_client
from streams.kafka.log_reader import LogReader
from streams.topics import EMBEDDINGS

LOOK_BACK = 50
"""Offsets before the log's end in which `newest_paths` looks."""


def check_log(config: Config) -> None:
    """Raise ConfigError where DIMENSION is not the log's, or EMBEDDINGS_TOPIC names a log that does not exist."""
    kafka = config.kafka
    if kafka.in_second_log and not topic_exists(kafka, EMBEDDINGS):
        raise ConfigError(
            f"EMBEDDINGS_TOPIC is {kafka.embeddings}: no topic {kafka.topic(EMBEDDINGS.name)} on {kafka.bootstrap}; "
            f"`imagetools reencode --to {kafka.embeddings}` makes it"
        )
    first = None if config.dimension is None else first_embedding(kafka)
    if first is not None and len(first.fingerprint) != config.dimension:
        raise ConfigError(
            f"DIMENSION is {config.dimension}, and {kafka.topic(EMBEDDINGS.name)} holds fingerprints of "
            f"{len(first.fingerprint)} numbers: unset it, or follow another log with EMBEDDINGS_TOPIC"
        )


def check_shards(kafka: KafkaConfig) -> None:
    """Raise ConfigError where this shard must not follow the log: it would report pairs that others report, or none."""
    groups, shard = shard_groups(kafka), kafka.shard
    others = [group for group in groups if group.shard.count != shard.count]
    own = next((group for group in groups if group.shard == shard), None)
    if own is not None and not own.mark.answering:
        raise ConfigError(f"`imagetools reshard {shard.count}` was interrupted: run it again, then start the search")
    # without notes two numbers of shards stand there only where an earlier version was interrupted between them
    if others and (own is None or not (own.note or all(group.note for group in others))):
        count = groups.answering or others[0].shard.count
        many = f"{count} shards" if count > 1 else "one search without shards"
        raise ConfigError(
            f"SHARD is {shard}, and {kafka.topic(EMBEDDINGS.name)} is followed by {many}: "
            f"`imagetools reshard {shard.count}` moves it, also while they run"
        )


def log_model(kafka: KafkaConfig) -> str | None:
    """Return the model that made the log's fingerprints; None where the log is empty or missing."""
    first = first_embedding(kafka)
    return None if first is None else first.model


def first_embedding(kafka: KafkaConfig) -> Embedding | None:
    """Return the first embedding in the log; None if the log has none or does not exist."""
    try:
        reader = LogReader(kafka, EMBEDDINGS.name, Embedding, 0)
    except KafkaException as exc:
        if exc.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise
    try:
        # to the end of the log, wherever that is
        held = (received.record for received in reader.read(0, sys.maxsize) if received is not None)
        return next((record for record in held if record is not None), None)
    finally:
        reader.close()


def newest_paths(kafka: KafkaConfig) -> list[str]:
    """Return the paths of images at the log's end, which could be read when they were announced."""
    end = end_offsets(admin_client(kafka), kafka.topic(EMBEDDINGS.name))[0]
    reader = LogReader(kafka, EMBEDDINGS.name, Embedding, 0)
    try:
        received = (one for one in reader.read(max(0, end - LOOK_BACK), end) if one is not None)
        return [one.path for one in received if one.record is not None]
    finally:
        reader.close()
