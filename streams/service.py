"""One stage as a process: settings, log, signals and exit code."""

import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from threadpoolctl import threadpool_limits

from imagetools.logs import configure
from streams.config import Config
from streams.exit_codes import ending
from streams.requests.server import RequestServer
from streams.runner import Runner
from streams.stage import Stage
from streams.states import StateReporter
from streams.topics import ANSWERS

KEPT_BYTES = 4 * 2**20
"""More than any memory block that an image of the usual size needs."""


def serve(kind: type[Stage[Any]], make: Callable[[Config], Stage[Any]], config: Config | None = None) -> None:
    """Run the stage and answer its requests until SIGTERM or SIGINT.

    kind    the stage's class
    make    makes the stage
    config  None: from the environment
    SystemExit with the exit code (streams.exit_codes) when the stage cannot go on.
    """
    configure()
    keep_freed_memory()
    keep_algebra_in_one_thread()
    with ending():
        config = config or Config.from_env()
        images_dir = str(config.images_dir.absolute()) if kind.reads_images else ""
        with StateReporter(config.kafka, kind.name, images_dir=images_dir) as reporter:
            _run(make(config), config, reporter)


def _run(stage: Stage[Any], config: Config, reporter: StateReporter) -> None:
    request_server = partial(RequestServer, stage, config.kafka) if stage.name in ANSWERS else None
    runner = Runner(
        stage,
        config.kafka,
        dead_letter_limit=config.dead_letter_limit,
        request_server=request_server,
        on_state=reporter.report,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runner.stop())
    runner.run()


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
