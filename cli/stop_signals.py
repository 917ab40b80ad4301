"""Ctrl-C and SIGTERM while a long command runs."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final, NoReturn

from streams.exit_codes import EXIT_INTERRUPTED

SHOW_CURSOR: Final = "\x1b[?25h"


class StopSignals:
    """A context in which the first signal ends the work in order, and a second one ends the process.

    requested    whether the first has arrived
    before_exit  functions to call at the second signal: short ones, since a signal handler calls them

    Until `defer`, the first signal raises KeyboardInterrupt. After it, the signal only sets `requested`, so that no
    message that was just read is lost. Outside the main thread nothing changes.
    """

    def __init__(self) -> None:
        self.requested = False
        self.before_exit: list[Callable[[], object]] = []
        self._deferred = False
        self._message = "stopping"
        self._before: dict[int, object] = {}

    def defer(self, message: str) -> None:
        """From now on only note the first signal; `message` tells the user what happens then."""
        self._message, self._deferred = message, True

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # a background job of a script ignores Ctrl-C, which is meant for the foreground
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            self._end_at_once()
        self.requested = True
        _say(f"Interrupted: {self._message}; Ctrl-C again stops at once")
        if not self._deferred:
            raise KeyboardInterrupt

    def _end_at_once(self) -> NoReturn:
        for call in self.before_exit:
            call()
        _say("Stopped at once" + (SHOW_CURSOR if sys.stderr.isatty() else ""))
        os._exit(EXIT_INTERRUPTED)


def _say(text: str) -> None:
    # not through a stream: the signal may have interrupted a write
    os.write(2, f"\n{text}\n".encode())
