"""One stage as a process: settings, log, signals, exit code."""

import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from imagetools.logs import configure
from streams.config import Config
from streams.exit_codes import ending
from streams.requests.server import RequestServer
from streams.runner import Runner
from streams.stage import Stage
from streams.states import StateReporter

KEPT_BYTES = 4 * 2**20
"""More than any block that an image of the usual size takes on its way."""


def serve(kind: type[Stage[Any]], make: Callable[[Config], Stage[Any]], config: Config | None = None) -> None:
    """Run the stage, and answer its requests, until SIGTERM or SIGINT; then return.

    SystemExit with the exit code (streams.exit_codes) where it cannot go on.
    """
    configure()
    keep_freed_memory()
    with ending():
        config = config or Config.from_env()
        images_dir = str(config.images_dir.absolute()) if kind.reads_images else ""
        with StateReporter(config.kafka, kind.name, images_dir=images_dir) as reporter:
            _run(make(config), config, reporter)


def _run(stage: Stage[Any], config: Config, reporter: StateReporter) -> None:
    request_server = partial(RequestServer, stage, config.kafka)
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
    """Have the C library keep the memory of one image for the next.

    glibc gives every block over 128 KB back to the system when it is freed, and has it zeroed anew for the next image,
    until a larger one was freed once: from then on blocks of that size are kept, twice as much in a heap. Of the
    matcher's processor time that was a seventh. Other C libraries, and who sets MALLOC_…, are not affected.
    """
    bytearray(KEPT_BYTES)
