"""Saves beside the work: a copy of this process writes what it held at one moment, and this one goes on at once."""

import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Final

MAX_REASON: Final = 4096
"""Bytes; a pipe takes as much without anyone reading."""

FORKS: Final = sys.platform != "darwin"
"""Whether a process with threads may be copied. macOS warns against it; there, the work waits for the save."""


class Saving:
    """A save under way.

    The copy shares the memory of this process until one of the two writes to it, as Redis saves its data. It has the
    calling thread alone, so `write` must not start threads, or need a lock that another thread may hold.
    """

    def __init__(self, write: Callable[[], None]) -> None:
        """Begin; `write` runs in a copy of this process, and what it raises is the reason of a failure."""
        self._reason: str | None = None
        self._process = 0
        if not FORKS:
            self._reason = _reason_of(write)
            return
        self._pipe, copy_end = os.pipe()
        with warnings.catch_warnings():
            # of threads beside this one, from Python 3.12 on: see above
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process = os.fork()
        if not self._process:
            # without what Python does at the end of a process: the files and threads are not this copy's
            # nor are its clients of Kafka, which a collection might close
            gc.disable()
            try:
                os.write(copy_end, _reason_of(write).encode()[:MAX_REASON])
            finally:
                os._exit(0)
        os.close(copy_end)

    def wait(self) -> str:
        """Wait for the end, and return why it failed; empty: it did not."""
        self._ended(0)
        assert self._reason is not None
        return self._reason

    def ended(self) -> bool:
        """Tell whether it has ended."""
        return self._ended(os.WNOHANG)

    def _ended(self, options: int) -> bool:
        if self._reason is not None:
            return True
        process, status = os.waitpid(self._process, options)
        if not process:
            return False
        with open(self._pipe, "rb") as pipe:
            self._reason = pipe.read().decode("utf-8", "replace")
        if os.WIFSIGNALED(status):
            self._reason = f"the process that wrote it was killed by {signal.Signals(os.WTERMSIG(status)).name}"
        return True


def _reason_of(write: Callable[[], None]) -> str:
    try:
        write()
    except Exception as exc:
        return str(exc) or type(exc).__name__
    return ""
