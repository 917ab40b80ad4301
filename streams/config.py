"""Every setting, read from the environment once and in this file only.

`Config.from_env` fails at start and names the variable that is wrong.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import KafkaException, Producer

from imagetools.engines import ENGINES
from imagetools.errors import ConfigError
from imagetools.index import DISTANCE_TYPES
from imagetools.matcher import MatcherConfig

log = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_BOOTSTRAP = "localhost:9092"
HOME = Path("/home/solver")

OURS = {"KAFKA_BOOTSTRAP_SERVERS", "KAFKA_GROUP_PROTOCOL"}
"""Variables that begin with KAFKA_ and are read by name."""

EXACTLY_ONCE = {
    "acks", "auto.offset.reset", "enable.auto.commit", "enable.auto.offset.store", "enable.idempotence",
    "enable.partition.eof", "group.id", "group.instance.id", "isolation.level", "message.send.max.retries",
    "partition.assignment.strategy", "partitioner", "request.required.acks", "retries", "transaction.timeout.ms",
    "transactional.id",
}  # fmt: skip
"""librdkafka settings that exactly once, or the order of a path's records, rests on."""


@dataclass(frozen=True)
class KafkaConfig:
    """How to reach the cluster.

    bootstrap       host:port, several with commas
    prefix          in front of every topic, group and transactional id
    settings        further librdkafka settings (SASL, SSL, …), for every client
    group_protocol  classic, or consumer (brokers from 4.0)
    registry        a schema registry's address; None: single-object encoding
    member          a name that stays the same across restarts of this process and that no other one has; with it, a
                    restart ends its predecessor's open transaction at once instead of after ten seconds
    start_from      earliest or latest, for a group that has lost its offsets; None: stop and ask
    """

    bootstrap: str = DEFAULT_BOOTSTRAP
    prefix: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    group_protocol: str = "classic"
    registry: str | None = None
    member: str | None = None
    start_from: str | None = None

    def client(self, **more: Any) -> dict[str, Any]:
        """Settings for a librdkafka client; names in `more` have underscores for dots, and win."""
        named = {name.replace("_", "."): value for name, value in more.items()}
        return {"bootstrap.servers": self.bootstrap, **self.settings, **named}

    def topic(self, name: str) -> str:
        """The topic's name on the cluster."""
        return self.prefix + name


@dataclass(frozen=True)
class Config:
    """All settings of one process; contracts.md and DESIGN.md name the variables.

    images_dir         the root of every relative path in the stream
    models_dir         where MODELS_NAME is looked for first; then in the package
    models_name        file name of the model
    engine             what runs the model: one of imagetools.engines.ENGINES
    encoder_threads    of the engine; None: as many as there are cores to use
    index_dir          snapshots of the index
    batch_size         vectors that a rebuild of the index inserts at a time
    dimension          of a fingerprint, checked; None follows the log
    distance_type      one of imagetools.index.DISTANCE_TYPES
    nb_neighbors       neighbors of each candidate, counted in distinct fingerprints
    nb_workers         threads of the matcher
    dead_letter_limit  this many dead letters in a row stop a stage before they are committed; 0: never
    matcher            threshold and the box that images are fitted to
    """

    kafka: KafkaConfig = KafkaConfig()
    images_dir: Path = HOME / "images"
    models_dir: Path = HOME / "models"
    models_name: str = "resnet18.th"
    engine: str = "auto"
    encoder_threads: int | None = None
    index_dir: Path = HOME / "location"
    batch_size: int = 1024
    dimension: int | None = None
    distance_type: str = "Cosine"
    nb_neighbors: int = 10
    nb_workers: int = 8
    dead_letter_limit: int = 100
    matcher: MatcherConfig = MatcherConfig()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Config":
        """The settings in `environ`; ConfigError names the first variable that is wrong."""
        default = cls()
        box = MatcherConfig()

        def read(name: str, fallback: T, parse: Callable[[str], T]) -> T:
            text = environ.get(name, "")
            if not text:
                return fallback
            try:
                return parse(text)
            except ValueError as exc:
                raise ConfigError(f"{name} is {text!r}: {exc}") from exc

        return cls(
            kafka=KafkaConfig(
                bootstrap=read("KAFKA_BOOTSTRAP_SERVERS", DEFAULT_BOOTSTRAP, str),
                prefix=read("TOPIC_PREFIX", "", _prefix),
                settings=_librdkafka(environ),
                group_protocol=read("KAFKA_GROUP_PROTOCOL", "classic", _one_of("classic", "consumer")),
                registry=read("SCHEMA_REGISTRY_URL", None, str),
                member=read("MEMBER_NAME", None, str),
            ),
            images_dir=read("IMAGES_DIR", default.images_dir, Path),
            models_dir=read("MODELS_DIR", default.models_dir, Path),
            models_name=read("MODELS_NAME", default.models_name, str),
            engine=read("ENCODER_ENGINE", default.engine, _one_of(*ENGINES)),
            encoder_threads=read("ENCODER_THREADS", None, _at_least(1)),
            index_dir=read("INDEX_DIR", default.index_dir, Path),
            batch_size=read("BATCH_SIZE", default.batch_size, _at_least(1)),
            dimension=read("DIMENSION", None, _at_least(1)),
            distance_type=read("DISTANCE_TYPE", default.distance_type, _one_of(*DISTANCE_TYPES)),
            nb_neighbors=read("NB_NEIGHBORS", default.nb_neighbors, _at_least(1)),
            nb_workers=read("NB_WORKERS", default.nb_workers, _at_least(1)),
            dead_letter_limit=read("DEAD_LETTER_LIMIT", default.dead_letter_limit, _at_least(0)),
            matcher=MatcherConfig(
                threshold=read("THRESHOLD", box.threshold, _share),
                width=read("WIDTH", box.width, _at_least(16)),
                height=read("HEIGHT", box.height, _at_least(16)),
            ),
        )


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if (number := int(text)) < least:
            raise ValueError(f"at least {least} is needed")
        return number

    return parse


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"it can be {', '.join(names)}")
        return text

    return parse


def _share(text: str) -> float:
    if not 0 <= (number := float(text)) <= 1:
        raise ValueError("a number from 0 to 1 is needed")
    return number


def _prefix(text: str) -> str:
    if not all(c.isascii() and (c.isalnum() or c in "._-") for c in text) or len(text) > 200:
        raise ValueError("letters, digits, '.', '_' and '-' only, at most 200")
    return text


def _librdkafka(environ: Mapping[str, str]) -> dict[str, str]:
    """KAFKA_SASL_MECHANISM=PLAIN is sasl.mechanism=PLAIN, for every name that librdkafka knows."""
    settings: dict[str, str] = {}
    for variable, text in environ.items():
        if not variable.startswith("KAFKA_") or variable in OURS:
            continue
        name = variable.removeprefix("KAFKA_").lower().replace("_", ".")
        if name in EXACTLY_ONCE:
            raise ConfigError(f"{variable}: {name} cannot be set, exactly-once delivery rests on it")
        if UNKNOWN in _refusal({name: text}):
            # Kubernetes injects such names for any service called kafka
            log.warning("%s is ignored: %s is no librdkafka setting", variable, name)
        else:
            settings[name] = text
    # judged together: SASL_SSL alone would be refused for want of Kerberos, which sasl.mechanism then replaces
    if together := _refusal(settings):
        for name, text in settings.items():
            if _refusal({name: text}) == together:
                raise ConfigError(f"KAFKA_{name.upper().replace('.', '_')}: {together}")
        raise ConfigError(f"the KAFKA_ variables do not fit each other: {together}")
    return settings


UNKNOWN = "No such configuration property"


def _refusal(settings: Mapping[str, str]) -> str:
    """Why librdkafka does not take these settings; empty where it does."""
    try:
        Producer(dict(settings), logger=_silent)
    except KafkaException as exc:
        return str(exc.args[0].str())
    return ""


_silent = logging.Logger("silent", logging.CRITICAL)  # librdkafka's remarks on half a configuration
