"""One stage as a process: settings, log, signals and exit code."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import KafkaException
from threadpoolctl import threadpool_limits

from imagetools.errors import PrerequisiteMissing
from imagetools.logs import configure
from schemas.records import State
from streams.config import Config, KafkaConfig
from streams.exit_codes import ending
from streams.kafka.admin import reach
from streams.kafka.authorization import explained, require_rights
from streams.kafka.errors import describe
from streams.requests.server import RequestServer
from streams.runner import Runner
from streams.stage import Figure, Stage
from streams.topics import ANSWERS
from streams.traces.base import Traces
from streams.traces.start import traced
from streams.watching.health import StageHealth
from streams.watching.metrics import StageMetrics
from streams.watching.server import serving
from streams.watching.states import StateReporter

log = logging.getLogger(__name__)

MAX_POLL_INTERVAL_MS = 300_000
"""librdkafka's default of max.poll.interval.ms."""

KEPT_BYTES = 4 * 2**20
"""More than any memory block that an image of the usual size needs."""


def serve(kind: type[Stage[Any]], make: Callable[[Config], Stage[Any]], config: Config | None = None) -> None:
    """Run the stage and answer its requests until SIGTERM or SIGINT.

    kind    the stage's class
    make    makes the stage
    config  None: from the environment
    SystemExit with the exit code (streams.exit_codes) when the stage cannot go on.
    """
    configure(json_lines=config is not None and config.log_format == "json")
    keep_freed_memory()
    keep_algebra_in_one_thread()
    with ending():
        config = config or Config.from_env()
        images_dir = _place_of_images(config) if kind.reads_images else ""
        metrics = StageMetrics(kind, StageHealth(_longest_turn_s(config.kafka)), prefix=config.kafka.prefix)
        figures = partial(_figures, metrics)
        reporter = StateReporter(config.kafka, kind.name, images_dir=images_dir, figures=figures)
        with (
            reporter,
            _served(metrics, config),
            traced(config.traces, kind.name, config.kafka.member) as traces,
            explained(config.kafka, kind.name),
        ):
            _check_rights(config.kafka, kind.name)
            _run(make(config), config, reporter, metrics, traces)


def _run(stage: Stage[Any], config: Config, reporter: StateReporter, metrics: StageMetrics, traces: Traces) -> None:
    def report(state: State, reason: str = "") -> None:
        reporter.report(state, reason)
        metrics.health.state(state, reason)

    request_server = partial(RequestServer, stage, config.kafka, traces=traces) if stage.name in ANSWERS else None
    metrics.show(stage)
    runner = Runner(
        stage,
        config.kafka,
        dead_letter_limit=config.dead_letter_limit,
        request_server=request_server,
        on_state=report,
        observer=metrics,
        traces=traces,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runner.stop())
    runner.run()


def _check_rights(kafka: KafkaConfig, stage: str) -> None:
    """Raise PermissionMissing at once for a right that may be needed much later, as that to write a dead letter."""
    try:
        require_rights(reach(kafka), stage)
    except PrerequisiteMissing as exc:
        log.warning("%s: %s. It is waited for", stage, exc)
    except KafkaException as exc:
        log.warning("%s: rights are not known yet: %s", stage, describe(kafka, exc.args[0]))


def _place_of_images(config: Config) -> str:
    """Return the place of images as other processes name it."""
    return str(config.images_dir.absolute() if isinstance(config.images_dir, Path) else config.images_dir)


def _figures(metrics: StageMetrics) -> tuple[Figure, ...]:
    """Return what the process says of itself with its state."""
    return (
        *metrics.figures,
        Figure("partitions", "Partitions that this process owns; 0: it stands by.", metrics.health.owned),
        Figure("resident_memory_bytes", "Memory of the process.", psutil.Process().memory_info().rss),
    )


def _longest_turn_s(kafka: KafkaConfig) -> float:
    """Return how long a turn of the loop may take: longer, and the group gives the partitions to another process."""
    return float(kafka.settings.get("max.poll.interval.ms", MAX_POLL_INTERVAL_MS)) / 1000


@contextmanager
def _served(metrics: StageMetrics, config: Config) -> Iterator[None]:
    """Serve metrics and probes where the settings ask for it. ConfigError where the port cannot be opened."""
    if config.metrics_port is None:
        yield
        return
    with serving(metrics, config.metrics_host, config.metrics_port) as port:
        log.info("%s: metrics on %s port %d", metrics.stage, config.metrics_host, port)
        yield


def keep_freed_memory() -> None:
    """Make the C library keep the memory of one image for the next.

    glibc returns every freed block over 128 KB to the system, which zeroes it before the next image gets it, until a
    larger block is freed once; from then on it keeps blocks of that size, up to twice as much in a heap. Without this,
    the matcher spends a seventh of its processor time on it. Other C libraries and processes with MALLOC_… variables
    are not affected.
    """
    bytearray(KEPT_BYTES)


def keep_algebra_in_one_thread() -> None:
    """Make NumPy's linear algebra compute in the thread that calls it.

    A stage's own threads are the parallelism. OpenBLAS cuts even a dot product into a piece for each core, and its
    threads spin while they wait for each other. Where all cores are busy, comparing takes a quarter longer by that.
    Networks bring their own threads, which this leaves alone.
    """
    threadpool_limits(1, user_api="blas")
