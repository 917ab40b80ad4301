"""One stage as a process: settings, log, signals, exit code."""

import logging
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from confluent_kafka import KafkaException

from imagetools.errors import ImageToolsError
from streams.config import Config
from streams.requests import Desk
from streams.runner import OffsetsLost, Runner, TooManyDeadLetters
from streams.stage import Stage

log = logging.getLogger(__name__)

EXIT_CRASHED = 1
EXIT_REFUSED = 2
"""A setting, a model or the group's state has to be mended by a person; a restart does not help."""


def serve(make: Callable[[Config], Stage[Any]], config: Config | None = None) -> None:
    """Run the stage, and answer its requests, until SIGTERM or SIGINT; then return.

    SystemExit with the exit code where it cannot go on.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        config = config or Config.from_env()
        stage = make(config)
        beside = partial(Desk, stage, config.kafka)
        runner = Runner(stage, config.kafka, dead_letter_limit=config.dead_letter_limit, beside=beside)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: runner.stop())
        runner.run()
    except (ImageToolsError, OffsetsLost, TooManyDeadLetters) as exc:
        log.error("%s", exc)
        raise SystemExit(EXIT_REFUSED) from exc
    except KafkaException as exc:
        log.error("Kafka: %s", exc.args[0].str())
        raise SystemExit(EXIT_CRASHED) from exc
