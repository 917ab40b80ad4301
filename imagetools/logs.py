"""Logs and warnings in single lines that a terminal shows and does not obey.

File names are other people's, and messages carry them: a log that is read in a terminal must not take orders from one.
"""

import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, TextIO

from imagetools.paths import printable

log = logging.getLogger(__name__)

FORMAT: Final = "%(asctime)s %(levelname)s %(message)s"

_warned_about = threading.local()


class OneLine(logging.Formatter):
    """Escapes control characters; a traceback keeps its lines, and nothing else in it is obeyed."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The record's line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """The traceback's lines; a message in it that holds several is written as one."""
        chunks = traceback.format_exception(ei[1])
        # what is indented are lines of code
        return "\n".join(
            printable(chunk.rstrip("\n"), keep="\n") if chunk.startswith(" ") else printable(chunk.strip("\n"))
            for chunk in chunks
        )


def configure(level: int = logging.INFO) -> None:
    """Log to the standard error output, each record in a line; uncaught exceptions and warnings go there, too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(FORMAT))
    logging.basicConfig(level=level, handlers=[handler])
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    _log_warnings()


def keep_console_clear() -> None:
    """Without `configure`: show the log's warnings and errors, each in a line, and none of Python's warnings."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(OneLine())
    _log_warnings()


def _log_warnings() -> None:
    """Make records of Python's warnings, at level INFO, which a log has and a console without one does not show.

    What Pillow warns of is said for every image, by its name, and not for the first one alone.
    """
    warnings.showwarning = _log_warning
    warnings.filterwarnings("always", module=r"PIL\.")


@contextmanager
def warnings_about(name: str) -> Iterator[None]:
    """Name the image that warnings of this thread are about."""
    before, _warned_about.name, _warned_about.said = getattr(_warned_about, "name", ""), name, set()
    try:
        yield
    finally:
        _warned_about.name = before


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    name = getattr(_warned_about, "name", "")
    text = " ".join(str(message).split())
    if not name:
        log.info("%s: %s (%s:%d)", category.__name__, text, filename, lineno)
    elif text not in _warned_about.said:
        _warned_about.said.add(text)
        log.info("%s: %s: %s", name, category.__name__, text)


def _log_uncaught(kind: type[BaseException], exc: BaseException | None, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    log.critical("ended by what nobody caught", exc_info=(kind, exc or kind(), traceback))
