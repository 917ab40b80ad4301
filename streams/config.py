"""The configuration of each process, read from the environment once, at start.

`from_env` names the first variable that is wrong. The table of settings is in streams/settings.py.
"""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from imagetools.errors import ConfigError
from imagetools.matching.config import MatcherConfig
from streams import librdkafka
from streams import settings as table
from streams.settings import HOME
from streams.sharding.shards import Shard
from streams.traces.config import TracesConfig

EMBEDDINGS_TOPIC: Final = table.EMBEDDINGS_TOPIC.default
DEFAULT_BOOTSTRAP: Final = table.KAFKA_BOOTSTRAP_SERVERS.default

QUIET: Final = {"log_level": "2"}
"""For librdkafka's own log."""


@dataclass(frozen=True)
class KafkaConfig:
    """How to reach the cluster.

    bootstrap       host:port, several with commas
    prefix          in front of every topic, group and transactional id
    settings        further librdkafka settings (SASL, SSL, …), for every client
    group_protocol  classic, or consumer (brokers from 4.0)
    registry        a schema registry's address; None: single-object encoding
    member          a name that this process keeps across restarts and no other process has; with it, a restart ends
                    its predecessor's open transaction at once instead of after ten seconds
    restarts        how often a supervisor has restarted this process, for its reported state
    start_from      earliest or latest, for a group that has lost its offsets; None: stop and ask
    embeddings      the log of fingerprints that the encoder writes and search follows; a collection that moves to
                    another model has a second one
    shard           of the index that a search holds, which has a group of its own
    """

    bootstrap: str = DEFAULT_BOOTSTRAP
    prefix: str = table.TOPIC_PREFIX.default
    settings: Mapping[str, str] = field(default_factory=dict)
    group_protocol: str = table.KAFKA_GROUP_PROTOCOL.default
    registry: str | None = table.SCHEMA_REGISTRY_URL.default
    member: str | None = table.MEMBER_NAME.default
    restarts: int = table.MEMBER_RESTARTS.default
    start_from: str | None = None
    embeddings: str = EMBEDDINGS_TOPIC
    shard: Shard = table.SHARD.default

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "KafkaConfig":
        """The settings in `environ`; ConfigError names the first variable that is wrong."""
        return cls(
            bootstrap=table.KAFKA_BOOTSTRAP_SERVERS.read(environ),
            prefix=table.TOPIC_PREFIX.read(environ),
            settings=librdkafka.from_env(environ),
            group_protocol=table.KAFKA_GROUP_PROTOCOL.read(environ),
            registry=table.SCHEMA_REGISTRY_URL.read(environ),
            member=table.MEMBER_NAME.read(environ),
            restarts=table.MEMBER_RESTARTS.read(environ),
            embeddings=table.EMBEDDINGS_TOPIC.read(environ),
            shard=table.SHARD.read(environ),
        )

    def client(self, **more: Any) -> dict[str, Any]:
        """Settings for a librdkafka client; names in `more` have underscores for dots, and win.

        Its own log is silent unless the settings ask for it: a client that cannot connect writes twenty lines a second
        that are no lines of our log, and its errors come to the callers.
        """
        named = {name.replace("_", "."): value for name, value in more.items()}
        return {"bootstrap.servers": self.bootstrap, **QUIET, **self.settings, **named}

    def topic(self, name: str) -> str:
        """The topic's name on the cluster."""
        return self.prefix + (self.embeddings if name == EMBEDDINGS_TOPIC else name)

    @property
    def shards(self) -> list["KafkaConfig"]:
        """The same cluster for each of the shards that `shard` is one of."""
        return [replace(self, shard=Shard(index, self.shard.count)) for index in range(self.shard.count)]

    @property
    def in_second_log(self) -> bool:
        """Whether the log of fingerprints is one that a collection has moved to."""
        return self.embeddings != EMBEDDINGS_TOPIC

    def group(self, stage: str) -> str:
        """The stage's consumer group; search has one for each log and shard, at whose offset its index stands."""
        if stage != "search":
            return self.prefix + stage
        log = self.embeddings if self.in_second_log else ""
        return self.prefix + ".".join(filter(None, (stage, log, self.shard.name)))


@dataclass(frozen=True)
class Config:
    """All settings of one stage process. docs/deploy.md lists their variables.

    images_dir         the root of every relative path in the stream: a folder, or the address of a store
    images_private     whether a root may be on a web server at a private address, or without TLS
    source_dir         the root of the candidates of match requests
    target_dir         the root of their neighbors
    models_dir         where MODELS_NAME is looked for first; then in the package
    models_name        file name of the model
    engine             what runs the model: one of imagetools.fingerprint.config.ENGINES
    encoder_threads    of the engine; None: as many as there are cores to use
    index_dir          snapshots of the index
    batch_size         vectors that a rebuild of the index inserts at a time
    dimension          that a fingerprint must have; None: that of the log
    distance_type      one of imagetools.index.config.DISTANCE_TYPES
    index_engine       one of imagetools.index.config.INDEX_ENGINES; None: USearch, and NGT for L1
    nb_neighbors       neighbors of each candidate, counted in distinct fingerprints
    nb_local           more neighbors that share local codes, at most, counted in the same way; 0: none
    nb_plain           more neighbors of a candidate with fewer than FEW_CODES local codes, counted in the same way
    nb_workers         images that the matcher reads at a time, and the most cores that it computes on; None: as many
                       as their place asks for
    features_dir       where encoders and matchers keep features on disk; None: matchers keep them in memory alone
    features_mb        of disk that they may take
    keep_order         criteria for the image of a group to keep, the weightiest first
    dead_letter_limit  after this many dead letters in a row a stage checks its inputs; 0: never
    metrics_port       of /metrics, /healthz and /readyz; None: they are not served
    metrics_host       the address that it is opened on
    log_format         text or json
    traces             whether traces are sent
    matcher            threshold, the pairs that it leaves out, and the box that images are fitted to
    """

    kafka: KafkaConfig = KafkaConfig()
    images_dir: Path | str = table.IMAGES_DIR.default
    images_private: bool = table.IMAGES_PRIVATE.default
    source_dir: Path | str = table.IMAGES_DIR.default
    target_dir: Path | str = table.IMAGES_DIR.default
    models_dir: Path = table.MODELS_DIR.default
    models_name: str = table.MODELS_NAME.default
    engine: str = table.ENCODER_ENGINE.default
    encoder_threads: int | None = table.ENCODER_THREADS.default
    index_dir: Path = table.INDEX_DIR.default
    batch_size: int = table.BATCH_SIZE.default
    dimension: int | None = table.DIMENSION.default
    distance_type: str = table.DISTANCE_TYPE.default
    index_engine: str | None = table.INDEX_ENGINE.default
    nb_neighbors: int = table.NB_NEIGHBORS.default
    nb_local: int = table.NB_LOCAL.default
    nb_plain: int = table.NB_PLAIN.default
    nb_workers: int | None = table.NB_WORKERS.default
    features_dir: Path | None = table.FEATURES_DIR.default
    features_mb: int = table.FEATURES_MB.default
    keep_order: tuple[str, ...] = table.KEEP_ORDER.default
    dead_letter_limit: int = table.DEAD_LETTER_LIMIT.default
    metrics_port: int | None = table.METRICS_PORT.default
    metrics_host: str = table.METRICS_HOST.default
    log_format: str = table.LOG_FORMAT.default
    traces: TracesConfig = TracesConfig()
    matcher: MatcherConfig = MatcherConfig()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Config":
        """The settings in `environ`; ConfigError names the first variable that is wrong."""
        images_dir = table.IMAGES_DIR.read(environ)
        distance_type, index_engine = table.DISTANCE_TYPE.read(environ), table.INDEX_ENGINE.read(environ)
        if distance_type == "L1" and index_engine == "USearch":
            raise ConfigError("INDEX_ENGINE is USearch, which does not know the DISTANCE_TYPE L1: set it to NGT")
        return cls(
            kafka=KafkaConfig.from_env(environ),
            images_dir=images_dir,
            images_private=table.IMAGES_PRIVATE.read(environ),
            source_dir=table.SOURCE_DIR.read(environ) or _where_there(HOME / "source", images_dir),
            target_dir=table.TARGET_DIR.read(environ) or _where_there(HOME / "target", images_dir),
            models_dir=table.MODELS_DIR.read(environ),
            models_name=table.MODELS_NAME.read(environ),
            engine=table.ENCODER_ENGINE.read(environ),
            encoder_threads=table.ENCODER_THREADS.read(environ),
            index_dir=table.INDEX_DIR.read(environ),
            batch_size=table.BATCH_SIZE.read(environ),
            dimension=table.DIMENSION.read(environ),
            distance_type=distance_type,
            index_engine=index_engine,
            nb_neighbors=table.NB_NEIGHBORS.read(environ),
            nb_local=table.NB_LOCAL.read(environ),
            nb_plain=table.NB_PLAIN.read(environ),
            nb_workers=table.NB_WORKERS.read(environ),
            features_dir=table.FEATURES_DIR.read(environ),
            features_mb=table.FEATURES_MB.read(environ),
            keep_order=table.KEEP_ORDER.read(environ),
            dead_letter_limit=table.DEAD_LETTER_LIMIT.read(environ),
            metrics_port=table.METRICS_PORT.read(environ),
            metrics_host=table.METRICS_HOST.read(environ),
            log_format=table.LOG_FORMAT.read(environ),
            traces=TracesConfig.from_env(environ),
            matcher=MatcherConfig(
                threshold=table.THRESHOLD.read(environ),
                alert_recoloured=table.ALERT_RECOLOURED.read(environ),
                alert_moved=table.ALERT_MOVED.read(environ),
                width=table.WIDTH.read(environ),
                height=table.HEIGHT.read(environ),
            ),
        )


@dataclass(frozen=True)
class BridgeConfig:
    """Settings of the HTTP bridge.

    images_dir      the root that pictures are shown from: a folder, or the address of a store
    images_private  whether it may be on a web server at a private address, or without TLS
    bridge_dir      where the bridge keeps what became of each image; None: a folder that is removed when it stops
    host            the address that the bridge listens on
    port            one port for all named paths, without POST /; None: contract_ports
    contract_ports  of encoder, search and matcher: each answers its contract at POST /
    token           required of every request but those for health; None: not required
    timeout_s       how long a stage may take to answer
    in_flight       requests that may wait at a time; one more gets 429
    body_timeout_s  how long a body may take to arrive, plus a second for every 16 KB; then 408
    bodies          how many may arrive at a time; one more ends the slowest with 408
    neighbors       of an image sent to POST /v1/duplicates, counted in distinct fingerprints
    log_format      text or json
    traces          whether traces are sent
    """

    kafka: KafkaConfig = KafkaConfig()
    images_dir: Path | str = table.IMAGES_DIR.default
    images_private: bool = table.IMAGES_PRIVATE.default
    bridge_dir: Path | None = table.BRIDGE_DIR.default
    host: str = table.BRIDGE_HOST.default
    port: int | None = table.SERVER_PORT.default
    contract_ports: tuple[int, int, int] = (8500, 8800, 8300)
    token: str | None = table.BRIDGE_TOKEN.default
    timeout_s: float = table.BRIDGE_TIMEOUT_S.default
    in_flight: int = table.BRIDGE_IN_FLIGHT.default
    body_timeout_s: float = table.BRIDGE_BODY_TIMEOUT_S.default
    bodies: int = table.BRIDGE_BODIES.default
    neighbors: int = table.NB_NEIGHBORS.default
    log_format: str = table.LOG_FORMAT.default
    traces: TracesConfig = TracesConfig()

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
        return cls(
            kafka=KafkaConfig.from_env(environ),
            images_dir=table.IMAGES_DIR.read(environ),
            images_private=table.IMAGES_PRIVATE.read(environ),
            bridge_dir=table.BRIDGE_DIR.read(environ),
            host=table.BRIDGE_HOST.read(environ),
            port=table.SERVER_PORT.read(environ),
            token=table.BRIDGE_TOKEN.read(environ),
            timeout_s=table.BRIDGE_TIMEOUT_S.read(environ),
            in_flight=table.BRIDGE_IN_FLIGHT.read(environ),
            body_timeout_s=table.BRIDGE_BODY_TIMEOUT_S.read(environ),
            bodies=table.BRIDGE_BODIES.read(environ),
            neighbors=table.NB_NEIGHBORS.read(environ),
            log_format=table.LOG_FORMAT.read(environ),
            traces=TracesConfig.from_env(environ),
        )


def _where_there(folder: Path, otherwise: Path | str) -> Path | str:
    return folder if folder.is_dir() else otherwise
