"""The table of settings: name, parser, default, unit, help, and who reads it.

To add a setting:
1. a row here
2. a field in streams/config.py, in its docstring, and read by `from_env`
3. a row in docs/deploy.md
4. the row's name in cli/commands/options.py, where `up`, `find`, `compare` or another command needs the option; the
   commands of the stages and the bridge have an option for each row that they read
5. in the tests: its variable in tests/streams/test_settings.py and, for a number, a value that is too large in
   tests/project/test_settings_table.py
6. its name in charts/imagetools/values.schema.json, or in tests/project/test_chart.py, where the chart sets it itself

tests/project/test_settings_table.py compares the first three, asks for that value, and fails where `up` or `find` lacks
an option; tests/project/test_chart.py checks the last; nothing checks the rest.
Librdkafka's own settings are in streams/librdkafka.py.

This module loads no library, because `imagetools --help` reads it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from imagetools.errors import ConfigError
from imagetools.fingerprint.config import ENGINES, EncoderConfig
from imagetools.grouping.keep import KEEP_ORDER as ALL_CRITERIA
from imagetools.index.config import DISTANCE_TYPES, INDEX_ENGINES, IndexConfig
from imagetools.matching.config import MatcherConfig
from imagetools.places import parse_place
from streams.parsing import brokers, one_of, port, seconds, share, some_of, topic_name, web_addresses, whole, yes_or_no
from streams.sharding.shards import Shard, parse_shard

T = TypeVar("T")

HOME: Final = Path("/home/solver")
"""Where folders are expected when no setting names another place."""

MAX_THREADS: Final = 1024
MAX_SIDE: Final = 4096
"""Pixels. Features of a larger picture take gigabytes."""

MAX_COUNT: Final = 10**9


class Reader(StrEnum):
    """A process that reads a setting."""

    ENCODER = "encoder"
    SEARCH = "search"
    MATCHER = "matcher"
    GROUPING = "grouping"
    BRIDGE = "bridge"
    COMMANDS = "command line"


STAGES: Final = (Reader.ENCODER, Reader.SEARCH, Reader.MATCHER, Reader.GROUPING)
ALL: Final = tuple(Reader)


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One setting.

    name              of the environment variable
    parse             from text to a value; ValueError with what is needed
    default           the value without the variable
    help              what it is for, in one sentence
    readers           who reads it
    unit              of the value; empty: it has none
    without           the default in words, if its value does not say it
    environment_only  no command has an option for it
    secret            no message shows its value
    """

    name: str
    parse: Callable[[str], T]
    default: T
    help: str
    readers: tuple[Reader, ...]
    unit: str = ""
    without: str = ""
    environment_only: bool = False
    secret: bool = False

    def read(self, environ: Mapping[str, str]) -> T:
        """The value in `environ`; an empty variable counts as unset. ConfigError names the variable."""
        text = environ.get(self.name, "")
        if not text:
            return self.default
        try:
            return self.parse(text)
        except ValueError as exc:
            raise ConfigError(f"{self.name} is {'set' if self.secret else repr(text)}: {exc}") from exc

    @property
    def default_text(self) -> str:
        """The default for people, with its unit."""
        if isinstance(self.default, bool):
            value = "yes" if self.default else "no"
        else:
            value = f"{self.default:g}" if isinstance(self.default, float) else str(self.default)
            if isinstance(self.default, tuple):
                value = ",".join(self.default)
        return self.without or f"{value} {self.unit}".rstrip() or "none"


IMAGES_DIR: Setting[Path | str] = Setting(
    "IMAGES_DIR", parse_place, HOME / "images",
    "The folder that every path is relative to, or a store: s3://bucket/prefix, gs://, az://, https://host/prefix.",
    (Reader.ENCODER, Reader.MATCHER, Reader.GROUPING, Reader.BRIDGE, Reader.COMMANDS),
)  # fmt: skip
IMAGES_PRIVATE = Setting(
    "IMAGES_PRIVATE", yes_or_no, False, "Whether images may be on a web server at a private address, or without TLS.",
    (Reader.ENCODER, Reader.MATCHER, Reader.GROUPING, Reader.BRIDGE, Reader.COMMANDS),
)  # fmt: skip
SOURCE_DIR: Setting[Path | str | None] = Setting(
    "SOURCE_DIR", parse_place, None, "The folder or store of the candidates in match requests.", (Reader.MATCHER,),
    without=f"{HOME / 'source'} if it exists, else IMAGES_DIR", environment_only=True,
)  # fmt: skip
TARGET_DIR: Setting[Path | str | None] = Setting(
    "TARGET_DIR", parse_place, None, "The folder or store of the neighbors in match requests.", (Reader.MATCHER,),
    without=f"{HOME / 'target'} if it exists, else IMAGES_DIR", environment_only=True,
)  # fmt: skip

KAFKA_BOOTSTRAP_SERVERS = Setting(
    "KAFKA_BOOTSTRAP_SERVERS", brokers, "localhost:9092", "Kafka's address, host:port, several with commas.", ALL
)
TOPIC_PREFIX = Setting("TOPIC_PREFIX", topic_name, "", "Put in front of every topic, group and transactional id.", ALL)
SCHEMA_REGISTRY_URL: Setting[str | None] = Setting(
    "SCHEMA_REGISTRY_URL", web_addresses, None, "The address of a schema registry.", ALL,
    without="none: messages name their schema themselves",
)  # fmt: skip
EMBEDDINGS_TOPIC = Setting("EMBEDDINGS_TOPIC", topic_name, "embeddings", "The log of fingerprints.", ALL)
KAFKA_GROUP_PROTOCOL = Setting(
    "KAFKA_GROUP_PROTOCOL", one_of("classic", "consumer"), "classic",
    "How consumer groups work: classic, or consumer (brokers from 4.0).", ALL,
)  # fmt: skip
MEMBER_NAME: Setting[str | None] = Setting(
    "MEMBER_NAME", str, None, "A name that this process keeps across restarts and no other process has.", STAGES,
    without="a random name at each start", environment_only=True,
)  # fmt: skip
MEMBER_RESTARTS = Setting(
    "MEMBER_RESTARTS", whole(0, MAX_COUNT), 0, "How often a supervisor has restarted this process.", STAGES,
    environment_only=True,
)  # fmt: skip

MODELS_DIR = Setting(
    "MODELS_DIR", Path, HOME / "models", "Where the model is looked for before the package.", (Reader.ENCODER,)
)
MODELS_NAME = Setting("MODELS_NAME", str, EncoderConfig.model, "The file name of the model.", (Reader.ENCODER,))
ENCODER_ENGINE = Setting(
    "ENCODER_ENGINE", one_of(*ENGINES), EncoderConfig.engine,
    f"What runs the model: {', '.join(ENGINES)}; auto is the fastest that is installed.", (Reader.ENCODER,),
)  # fmt: skip
ENCODER_THREADS: Setting[int | None] = Setting(
    "ENCODER_THREADS", whole(1, MAX_THREADS), EncoderConfig.threads, "Threads that run the model.", (Reader.ENCODER,),
    without="as many as there are cores",
)  # fmt: skip

SHARD = Setting(
    "SHARD", parse_shard, Shard(), "Which shard of the index this search is, and of how many: 0/4 to 3/4.",
    (Reader.SEARCH,),
)  # fmt: skip
INDEX_DIR = Setting("INDEX_DIR", Path, HOME / "location", "The folder of the index's snapshots.", (Reader.SEARCH,))
NB_NEIGHBORS = Setting(
    "NB_NEIGHBORS", whole(1, 10_000), 5, "Neighbors of an image to compare it with, in distinct fingerprints.",
    (Reader.SEARCH, Reader.BRIDGE),
)  # fmt: skip
NB_LOCAL = Setting(
    "NB_LOCAL", whole(0, 10_000), 10,
    "More neighbors of an image, which share local detail with it, at most; 0: none are looked for.", (Reader.SEARCH,),
)  # fmt: skip
NB_PLAIN = Setting(
    "NB_PLAIN", whole(0, 10_000), 45,
    "More neighbors, in distinct fingerprints, of an image with next to no local detail, such as a sky; 0: none.",
    (Reader.SEARCH,),
)  # fmt: skip
DISTANCE_TYPE = Setting(
    "DISTANCE_TYPE", one_of(*DISTANCE_TYPES), IndexConfig.distance_type,
    f"How fingerprints are compared: {', '.join(DISTANCE_TYPES)}.", (Reader.SEARCH,),
)  # fmt: skip
INDEX_ENGINE: Setting[str | None] = Setting(
    "INDEX_ENGINE", one_of(*INDEX_ENGINES), IndexConfig.engine,
    f"What finds the nearest fingerprints: {' or '.join(INDEX_ENGINES)}.", (Reader.SEARCH,),
    without="USearch, and NGT for L1",
)  # fmt: skip
DIMENSION: Setting[int | None] = Setting(
    "DIMENSION", whole(1, 65_536), IndexConfig.dimension, "The dimension that a fingerprint must have.",
    (Reader.SEARCH,), without="that of the log",
)  # fmt: skip
BATCH_SIZE = Setting(
    "BATCH_SIZE", whole(1, 1_000_000), 1024, "Vectors that a rebuild of the index inserts at a time.", (Reader.SEARCH,)
)

THRESHOLD = Setting(
    "THRESHOLD", share, MatcherConfig.threshold, "The score, 0 to 1, from which a pair is a duplicate.",
    (Reader.MATCHER, Reader.GROUPING),
)  # fmt: skip
ALERT_RECOLOURED = Setting(
    "ALERT_RECOLOURED", yes_or_no, MatcherConfig.alert_recoloured,
    "Whether a picture in other hues is a duplicate; no suits a shop that shows one product in several colours.",
    (Reader.MATCHER, Reader.GROUPING),
)  # fmt: skip
ALERT_MOVED = Setting(
    "ALERT_MOVED", yes_or_no, MatcherConfig.alert_moved,
    "Whether one scene, in which something moved, is a duplicate; no keeps every frame of a burst.",
    (Reader.MATCHER, Reader.GROUPING),
)  # fmt: skip
WIDTH = Setting(
    "WIDTH", whole(16, MAX_SIDE), MatcherConfig.width, "Width of the box that images are fitted to.",
    (Reader.ENCODER, Reader.MATCHER, Reader.GROUPING), unit="pixels",
)  # fmt: skip
HEIGHT = Setting(
    "HEIGHT", whole(16, MAX_SIDE), MatcherConfig.height, "Height of that box.",
    (Reader.ENCODER, Reader.MATCHER, Reader.GROUPING), unit="pixels",
)  # fmt: skip
NB_WORKERS: Setting[int | None] = Setting(
    "NB_WORKERS", whole(1, MAX_THREADS), None, "Images that a matcher reads at a time; it computes on no more cores.",
    (Reader.MATCHER,), without="8 from a folder, 32 from a store",
)  # fmt: skip
FEATURES_DIR: Setting[Path | None] = Setting(
    "FEATURES_DIR", Path, None, "A folder on a local disk that keeps features of images.",
    (Reader.ENCODER, Reader.MATCHER, Reader.GROUPING), without="features are kept in memory alone",
)  # fmt: skip
FEATURES_MB = Setting(
    "FEATURES_MB", whole(64, 100_000_000), 8192, "Space for features on disk; 1,000 MB hold some 10,000 images.",
    (Reader.ENCODER, Reader.MATCHER, Reader.GROUPING), unit="MB",
)  # fmt: skip
KEEP_ORDER = Setting(
    "KEEP_ORDER", some_of(*ALL_CRITERIA), ALL_CRITERIA,
    "What matters for the image of a group to keep, the weightiest first, with commas between.", (Reader.GROUPING,),
)  # fmt: skip
DEAD_LETTER_LIMIT = Setting(
    "DEAD_LETTER_LIMIT", whole(0, MAX_COUNT), 100,
    "After this many dead letters in a row a stage checks its inputs; 0: never.", STAGES,
)  # fmt: skip
METRICS_PORT: Setting[int | None] = Setting(
    "METRICS_PORT", port, None, "The port of a stage's /metrics, /healthz and /readyz; `up` counts on from it.", STAGES,
    without="none: they are not served",
)  # fmt: skip
METRICS_HOST = Setting("METRICS_HOST", str, "127.0.0.1", "The address that this port is opened on.", STAGES)
LOG_FORMAT = Setting(
    "LOG_FORMAT", one_of("text", "json"), "text", "How processes log: text, or json, one object a line.",
    (*STAGES, Reader.BRIDGE),
)  # fmt: skip
# OpenTelemetry's own variables; its library reads the others (docs/operations.md)
OTEL_TRACES_EXPORTER: Setting[str | None] = Setting(
    "OTEL_TRACES_EXPORTER", one_of("none", "otlp"), None, "Where traces go: none, or otlp, to a collector.", ALL,
    without="none: no traces are sent", environment_only=True,
)  # fmt: skip
OTEL_SDK_DISABLED = Setting(
    "OTEL_SDK_DISABLED", yes_or_no, False, "Whether no traces are sent all the same.", ALL, environment_only=True
)
OTEL_EXPORTER_OTLP_ENDPOINT: Setting[str | None] = Setting(
    "OTEL_EXPORTER_OTLP_ENDPOINT", str, None, "The collector's address; it alone switches nothing on.", ALL,
    without="http://localhost:4318", environment_only=True,
)  # fmt: skip
OTEL_EXPORTER_OTLP_PROTOCOL = Setting(
    "OTEL_EXPORTER_OTLP_PROTOCOL", str, "http/protobuf", "How; there is no other way.", ALL, environment_only=True
)

SERVER_PORT: Setting[int | None] = Setting(
    "SERVER_PORT", port, None, "One port for all paths; POST / is then answered by no contract.", (Reader.BRIDGE,),
    without="8500, 8800 and 8300, one for each contract",
)  # fmt: skip
BRIDGE_HOST = Setting("BRIDGE_HOST", str, "127.0.0.1", "The address that the bridge listens on.", (Reader.BRIDGE,))
BRIDGE_TOKEN: Setting[str | None] = Setting(
    "BRIDGE_TOKEN", str, None, "A token that every request must carry, except those for health.", (Reader.BRIDGE,),
    without="none: nobody is asked for one", environment_only=True, secret=True,
)  # fmt: skip
BRIDGE_TIMEOUT_S = Setting(
    "BRIDGE_TIMEOUT_S", seconds, 10.0, "How long a stage may take to answer; then 504.", (Reader.BRIDGE,), unit="s"
)
BRIDGE_IN_FLIGHT = Setting(
    "BRIDGE_IN_FLIGHT", whole(1, 100_000), 256, "Requests that may wait for a stage at a time; one more gets 429.",
    (Reader.BRIDGE,),
)  # fmt: skip
BRIDGE_BODY_TIMEOUT_S = Setting(
    "BRIDGE_BODY_TIMEOUT_S", seconds, 20.0,
    "How long a request's body may take, and a second more for every 16 KB; then 408.", (Reader.BRIDGE,), unit="s",
)  # fmt: skip
BRIDGE_BODIES = Setting(
    "BRIDGE_BODIES", whole(1, 100_000), 128,
    "Bodies that may arrive at a time; one more ends the slowest of them with 408.", (Reader.BRIDGE,),
)  # fmt: skip
BRIDGE_DIR: Setting[Path | None] = Setting(
    "BRIDGE_DIR", Path, None, "A folder that keeps what became of each image across restarts.", (Reader.BRIDGE,),
    without="it is read from the topics at each start",
)  # fmt: skip

SETTINGS: Final[tuple[Setting[Any], ...]] = tuple(row for row in globals().values() if isinstance(row, Setting))
"""Every row, in the order above."""


def read_by(*readers: Reader) -> tuple[Setting[Any], ...]:
    """The settings that any of these reads."""
    return tuple(setting for setting in SETTINGS if set(readers) & set(setting.readers))
