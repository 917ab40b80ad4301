"""Logs and warnings as single lines without control characters.

Messages contain file names, which may contain control sequences. A terminal that shows the log must not obey them.
"""

import faulthandler
import json
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

from imagetools.paths import printable

log = logging.getLogger(__name__)

FORMAT: Final = "%(asctime)s %(levelname)s %(message)s"

USUAL_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Of every log record; what else it has came by `extra`."""

_warned_about = threading.local()


class OneLine(logging.Formatter):
    """Formats a record as one line with control characters escaped; a traceback keeps its line breaks."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the record's line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Return the traceback's lines; a message of several lines becomes one."""
        chunks = traceback.format_exception(ei[1])
        # indented lines are code
        return "\n".join(
            printable(chunk.rstrip("\n"), keep="\n") if chunk.startswith(" ") else printable(chunk.strip("\n"))
            for chunk in chunks
        )


class JsonLine(OneLine):
    """Formats a record as one line of JSON: time, level, logger, message, exception, and what `extra` gave.

    Everything but ASCII is escaped, so no file name reaches a terminal raw.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        fields |= {name: value for name, value in vars(record).items() if name not in USUAL_FIELDS}
        return json.dumps(fields, default=str)


def configure(level: int = logging.INFO, *, json_lines: bool = False) -> None:
    """Log to standard error, one line a record; uncaught exceptions and warnings, too.

    A process that a library kills (SIGSEGV, SIGABRT) says where each of its threads was.

    json_lines  each line is a JSON object
    """
    # into the same descriptor: a redirected sys.stderr may have none
    faulthandler.enable(file=2)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLine() if json_lines else OneLine(FORMAT))
    logging.basicConfig(level=level, handlers=[handler])
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    _log_warnings()


def keep_console_clear() -> None:
    """Without `configure`: show logged warnings and errors, one line each, and none of Python's warnings."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(OneLine())
    _log_warnings()


def _log_warnings() -> None:
    """Log Python's warnings at level INFO, which a log shows and a console does not.

    Pillow's warnings are logged for every image by name, not only for the first.
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
    log.critical("uncaught exception", exc_info=(kind, exc or kind(), traceback))
