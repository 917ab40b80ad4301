"""Exit codes, and which exception has which: for stages, the bridge and every command.

- 0: stopped as asked.
- 1: crashed; start it again.
- 2: refused. A setting, a model or the group's state needs a person; a restart does not help.
- 130: interrupted, as shells report it: 128 plus the number of SIGINT. Commands treat SIGTERM the same.
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
"""A person has to act first; the message says how. A running stage waits for its folder of images, so
ImageRootUnavailable never ends one."""

SETTINGS_ERRORS = {KafkaError._INVALID_ARG, KafkaError._CONFLICT}
"""Codes of librdkafka for invalid settings."""


class Failed(Exception):
    """A process that this one depends on has failed; the message says why and where its log is."""


def exit_code(exc: BaseException) -> int:
    """Return the exit code for an exception."""
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
    """Whether the exception is unexpected, so its traceback is worth keeping."""
    return exit_code(exc) == EXIT_CRASHED and not isinstance(exc, (KafkaException, RegistryAway, Failed))


@contextmanager
def ending() -> Iterator[None]:
    """Turn an exception into SystemExit, after logging its reason and, for a fault, the traceback."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as exc:
        fault = is_fault(exc)
        log.error("%s", f"{type(exc).__name__}: {exc}" if fault else reason_of(exc), exc_info=exc if fault else None)
        raise SystemExit(exit_code(exc)) from exc
