"""How a process ends: one way from an exception to an exit code, for stages, the bridge and every command.

- 0: stopped as asked.
- 1: crashed; start it again.
- 2: refused. A setting, a model or the group's state needs a person; to start it again does not help.
- 130: interrupted, as a shell reports it: 128 and the number of SIGINT. Commands take SIGTERM for the same.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from imagetools.errors import ImageRootUnavailable, ImageToolsError, RegistryAway
from streams.kafka.errors import OffsetsLost, reason_of

log = logging.getLogger(__name__)

EXIT_CRASHED = 1
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130

REFUSALS = (ImageToolsError, ImageRootUnavailable, OffsetsLost)
"""What a person has to put right first; the message says how. A stage that runs waits for its folder of images, so that
ImageRootUnavailable ends none."""

SETTINGS_ERRORS = {KafkaError._INVALID_ARG, KafkaError._CONFLICT}
"""What librdkafka says of settings that it does not take."""


class Failed(Exception):
    """A process that this one depends on has failed; the message says why, and where its log is."""


def exit_code(exc: BaseException) -> int:
    """The code that a process ends with when this is raised."""
    if isinstance(exc, SystemExit):
        return exc.code if isinstance(exc.code, int) else EXIT_CRASHED if exc.code else 0
    if isinstance(exc, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    if isinstance(exc, REFUSALS):
        return EXIT_REFUSED
    if isinstance(exc, KafkaException) and exc.args[0].code() in SETTINGS_ERRORS:
        return EXIT_REFUSED
    return EXIT_CRASHED


def is_fault(exc: BaseException) -> bool:
    """Whether nobody foresaw it, so that its traceback is worth keeping."""
    return exit_code(exc) == EXIT_CRASHED and not isinstance(exc, (KafkaException, RegistryAway, Failed))


@contextmanager
def ending() -> Iterator[None]:
    """End the process for what is raised: the reason, and the traceback of a fault, go to its log; then SystemExit."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as exc:
        fault = is_fault(exc)
        log.error("%s", f"{type(exc).__name__}: {exc}" if fault else reason_of(exc), exc_info=exc if fault else None)
        raise SystemExit(exit_code(exc)) from exc
