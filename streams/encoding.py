"""What encoding takes in and out of the stream: the model by the settings, the log's own model, parts on the wire."""

import sys

from confluent_kafka import KafkaError, KafkaException
from platformdirs import user_cache_path

from imagetools.errors import ConfigError
from imagetools.fingerprint.config import EncoderConfig
from imagetools.fingerprint.encoder import Described, Encoder
from schemas.records import Embedding, Part
from streams.config import Config, KafkaConfig
from streams.kafka.admin import end_offsets, topic_exists
from streams.kafka.clients import admin_client
from streams.kafka.log_reader import LogReader
from streams.topics import EMBEDDINGS

LOOK_BACK = 50
"""Offsets before the log's end whose images are taken for known."""


def load(config: Config) -> Encoder:
    """The encoder that the settings name; ModelError."""
    return Encoder.load(
        EncoderConfig(
            config.models_name,
            config.models_dir,
            engine=config.engine,
            threads=config.encoder_threads,
            kept=user_cache_path("imagetools"),
        )
    )


def model_of(kafka: KafkaConfig) -> str | None:
    """What made the fingerprints of the log, by its first one; None where it is empty, or not there."""
    first = first_of(kafka)
    return None if first is None else first.model


def first_of(kafka: KafkaConfig) -> Embedding | None:
    """The first record of the log; None where it is empty, or not there."""
    try:
        reader = LogReader(kafka, EMBEDDINGS.name, Embedding, 0)
    except KafkaException as exc:
        if exc.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise
    try:
        # to the log's end, wherever that is
        held = (received.record for received in reader.read(0, sys.maxsize) if received is not None)
        return next((record for record in held if record is not None), None)
    finally:
        reader.close()


def check_log(config: Config) -> None:
    """ConfigError where DIMENSION is not that of the log, or where there is no log that a collection has moved to."""
    kafka = config.kafka
    if kafka.in_second_log and not topic_exists(kafka, EMBEDDINGS):
        raise ConfigError(
            f"EMBEDDINGS_TOPIC is {kafka.embeddings}: no topic {kafka.topic(EMBEDDINGS.name)} on {kafka.bootstrap}; "
            f"`imagetools reencode --to {kafka.embeddings}` makes it"
        )
    first = None if config.dimension is None else first_of(kafka)
    if first is not None and len(first.fingerprint) != config.dimension:
        raise ConfigError(
            f"DIMENSION is {config.dimension}, and {kafka.topic(EMBEDDINGS.name)} holds fingerprints of "
            f"{len(first.fingerprint)} numbers: unset it, or follow another log with EMBEDDINGS_TOPIC"
        )


def last_paths(kafka: KafkaConfig) -> list[str]:
    """Images that stand at the log's end: they were there when they were announced."""
    end = end_offsets(admin_client(kafka), kafka.topic(EMBEDDINGS.name))[0]
    reader = LogReader(kafka, EMBEDDINGS.name, Embedding, 0)
    try:
        received = (one for one in reader.read(max(0, end - LOOK_BACK), end) if one is not None)
        return [one.path for one in received if one.record is not None]
    finally:
        reader.close()


def parts_of(found: Described) -> tuple[Part, ...]:
    """The pictures inside an image, as they go on the wire."""
    return tuple(Part(box.left, box.top, box.right, box.bottom, row) for box, row in found.parts)
