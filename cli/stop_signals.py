"""What Ctrl-C and SIGTERM do while a long command runs."""

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
    """The first signal is said at once and ends the work in order; a second one ends the process.

    requested    whether the first has come
    before_exit  what is called before the process ends at the second: short, and from a signal handler

    Until `defer`, the first signal raises KeyboardInterrupt; after it, `requested` is all that it sets, so that no
    message which was just read is lost. Outside the main thread signals are not looked at.
    """

    def __init__(self) -> None:
        self.requested = False
        self.before_exit: list[Callable[[], object]] = []
        self._deferred = False
        self._message = "stopping"
        self._before: dict[int, object] = {}

    def defer(self, message: str) -> None:
        """From here on, note the first signal and go on; `message` says what happens then."""
        self._message, self._deferred = message, True

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # what a script starts in the background ignores Ctrl-C, which is meant for others
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
    # not through a stream: the signal may have come while one was being written
    os.write(2, f"\n{text}\n".encode())
