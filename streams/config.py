"""Every setting, read from the environment once and in this file only.

`Config.from_env` fails at start and names the variable that is wrong.
"""

import ipaddress
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from confluent_kafka import KafkaException, Producer

from imagetools.errors import ConfigError
from imagetools.fingerprint.config import ENGINES
from imagetools.index.config import DISTANCE_TYPES
from imagetools.matching.config import MatcherConfig

log = logging.getLogger(__name__)

T = TypeVar("T")

EMBEDDINGS_TOPIC = "embeddings"
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
    restarts        how often a supervisor has started this process again, for those who watch it
    start_from      earliest or latest, for a group that has lost its offsets; None: stop and ask
    embeddings      the log of fingerprints that the encoder writes and search follows; a collection that moves to
                    another model has a second one
    """

    bootstrap: str = DEFAULT_BOOTSTRAP
    prefix: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    group_protocol: str = "classic"
    registry: str | None = None
    member: str | None = None
    restarts: int = 0
    start_from: str | None = None
    embeddings: str = EMBEDDINGS_TOPIC

    def client(self, **more: Any) -> dict[str, Any]:
        """Settings for a librdkafka client; names in `more` have underscores for dots, and win."""
        named = {name.replace("_", "."): value for name, value in more.items()}
        return {"bootstrap.servers": self.bootstrap, **self.settings, **named}

    def topic(self, name: str) -> str:
        """The topic's name on the cluster."""
        return self.prefix + (self.embeddings if name == EMBEDDINGS_TOPIC else name)

    @property
    def in_second_log(self) -> bool:
        """Whether the log of fingerprints is one that a collection has moved to."""
        return self.embeddings != EMBEDDINGS_TOPIC

    def group(self, stage: str) -> str:
        """The stage's consumer group; search has one for each log, at whose offset its index stands."""
        return self.prefix + (f"{stage}.{self.embeddings}" if stage == "search" and self.in_second_log else stage)


@dataclass(frozen=True)
class Config:
    """All settings of one stage process; contracts.md and DESIGN.md name the variables.

    images_dir         the root of every relative path in the stream
    source_dir         the root of the candidates of match requests
    target_dir         the root of their neighbors
    models_dir         where MODELS_NAME is looked for first; then in the package
    models_name        file name of the model
    engine             what runs the model: one of imagetools.fingerprint.config.ENGINES
    encoder_threads    of the engine; None: as many as there are cores to use
    index_dir          snapshots of the index
    batch_size         vectors that a rebuild of the index inserts at a time
    dimension          of a fingerprint, checked; None follows the log
    distance_type      one of imagetools.index.config.DISTANCE_TYPES
    nb_neighbors       neighbors of each candidate, counted in distinct fingerprints
    nb_workers         images that the matcher reads at a time, and the most cores that it computes on
    features_dir       where the matcher keeps features on disk; None: in memory alone
    features_mb        of disk that they may take
    dead_letter_limit  after this many dead letters in a row a stage checks whether its inputs are away; 0: never
    matcher            threshold and the box that images are fitted to
    """

    kafka: KafkaConfig = KafkaConfig()
    images_dir: Path = HOME / "images"
    source_dir: Path = HOME / "images"
    target_dir: Path = HOME / "images"
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
    features_dir: Path | None = None
    features_mb: int = 8192
    dead_letter_limit: int = 100
    matcher: MatcherConfig = MatcherConfig()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Config":
        """The settings in `environ`; ConfigError names the first variable that is wrong."""
        default = cls()
        box = MatcherConfig()
        read = _Reader(environ)
        images_dir = read("IMAGES_DIR", default.images_dir, Path)
        return cls(
            kafka=_kafka_config(read),
            images_dir=images_dir,
            source_dir=read("SOURCE_DIR", _where_there(HOME / "source", images_dir), Path),
            target_dir=read("TARGET_DIR", _where_there(HOME / "target", images_dir), Path),
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
            features_dir=read("FEATURES_DIR", None, Path),
            features_mb=read("FEATURES_MB", default.features_mb, _at_least(64)),
            dead_letter_limit=read("DEAD_LETTER_LIMIT", default.dead_letter_limit, _at_least(0)),
            matcher=MatcherConfig(
                threshold=read("THRESHOLD", box.threshold, _share),
                width=read("WIDTH", box.width, _at_least(16)),
                height=read("HEIGHT", box.height, _at_least(16)),
            ),
        )


@dataclass(frozen=True)
class BridgeConfig:
    """Settings of the HTTP bridge.

    images_dir      the root that pictures are shown from
    bridge_dir      where it keeps what became of each image; None: a folder that is removed when it stops
    host            the address that it listens on
    port            one port, with the named paths alone; None: the contracts' own
    contract_ports  of encoder, search and matcher: each answers its contract at POST /
    token           asked of every request but those for health; None: of none
    timeout_s       how long a stage may take to answer
    in_flight       requests that may wait at a time; one more gets 429
    body_timeout_s  how long a body may take to come, and a second more for every 16 KB; then 408
    bodies          that may be coming at a time; for one more, the one that is furthest behind gets 408
    neighbors       of an image that is asked about by POST /v1/duplicates, in distinct fingerprints
    """

    kafka: KafkaConfig = KafkaConfig()
    images_dir: Path = HOME / "images"
    bridge_dir: Path | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    contract_ports: tuple[int, int, int] = (8500, 8800, 8300)
    token: str | None = None
    timeout_s: float = 10.0
    in_flight: int = 256
    body_timeout_s: float = 20.0
    bodies: int = 128
    neighbors: int = 10

    @property
    def on_loopback(self) -> bool:
        """Whether it listens on this machine alone."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def address(self) -> str:
        """Where a browser on this machine finds the page."""
        name = "localhost" if self.host in ("0.0.0.0", "::") else f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.contract_ports[0] if self.port is None else self.port}/"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "BridgeConfig":
        """The settings in `environ`; ConfigError names the first variable that is wrong."""
        read, default = _Reader(environ), cls()
        return cls(
            kafka=_kafka_config(read),
            images_dir=read("IMAGES_DIR", default.images_dir, Path),
            bridge_dir=read("BRIDGE_DIR", None, Path),
            host=read("BRIDGE_HOST", default.host, str),
            port=read("SERVER_PORT", None, _port),
            token=read("BRIDGE_TOKEN", None, str),
            timeout_s=read("BRIDGE_TIMEOUT_S", default.timeout_s, _seconds),
            in_flight=read("BRIDGE_IN_FLIGHT", default.in_flight, _at_least(1)),
            body_timeout_s=read("BRIDGE_BODY_TIMEOUT_S", default.body_timeout_s, _seconds),
            bodies=read("BRIDGE_BODIES", default.bodies, _at_least(1)),
            neighbors=read("NB_NEIGHBORS", default.neighbors, _at_least(1)),
        )


@dataclass(frozen=True)
class _Reader:
    """Reads one variable after the other; an empty one counts as unset."""

    environ: Mapping[str, str]

    def __call__(self, name: str, fallback: T, parse: Callable[[str], T]) -> T:
        text = self.environ.get(name, "")
        if not text:
            return fallback
        try:
            return parse(text)
        except ValueError as exc:
            shown = "set" if "TOKEN" in name else repr(text)
            raise ConfigError(f"{name} is {shown}: {exc}") from exc


def _kafka_config(read: _Reader) -> KafkaConfig:
    return KafkaConfig(
        bootstrap=read("KAFKA_BOOTSTRAP_SERVERS", DEFAULT_BOOTSTRAP, _addresses),
        prefix=read("TOPIC_PREFIX", "", _prefix),
        settings=_librdkafka(read.environ),
        group_protocol=read("KAFKA_GROUP_PROTOCOL", "classic", _one_of("classic", "consumer")),
        registry=read("SCHEMA_REGISTRY_URL", None, _web_addresses),
        member=read("MEMBER_NAME", None, str),
        restarts=read("MEMBER_RESTARTS", 0, _at_least(0)),
        embeddings=read("EMBEDDINGS_TOPIC", EMBEDDINGS_TOPIC, _prefix),
    )


def _where_there(folder: Path, otherwise: Path) -> Path:
    return folder if folder.is_dir() else otherwise


ADDRESS = re.compile(r"(\w+://)?(\[[\da-fA-F:.]+\]|[^\s:,\[\]/]+)(:(?P<port>\d{1,5}))?", re.ASCII)
"""Of one broker, as librdkafka takes it."""


def _addresses(text: str) -> str:
    for part in text.split(","):
        found = ADDRESS.fullmatch(part.strip())
        if found is None or not 1 <= int(found["port"] or 1) <= 65535:
            raise ValueError("host:port is needed, several with commas")
    return text


def _port(text: str) -> int:
    if not 0 <= (number := _whole(text)) <= 65535:
        raise ValueError("a port from 1 to 65535 is needed; 0 takes a free one")
    return number


def _web_addresses(text: str) -> str:
    for address in text.split(","):
        parts = urlsplit(address.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname or " " in parts.netloc:
            raise ValueError("an address is needed, such as http://registry:8081")
    return text


def _seconds(text: str) -> float:
    if not 0 < (number := _decimal(text)) <= 600:
        raise ValueError("seconds above 0, at most 600")
    return number


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as exc:
        raise ValueError("a whole number is needed") from exc


def _decimal(text: str) -> float:
    try:
        return float(text)
    except ValueError as exc:
        raise ValueError("a number is needed") from exc


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if (number := _whole(text)) < least:
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
    if not 0 <= (number := _decimal(text)) <= 1:
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
