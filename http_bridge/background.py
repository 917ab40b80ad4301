"""Threads of the bridge, each of which goes on until it is closed, whatever goes wrong on it."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from streams.kafka.errors import reason_of

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
SETTLED_S: Final = 2.0
"""How long the work must go on without a fault until the last one is over: the same message may come again."""


class Background:
    """Repeats some work on a thread of its own.

    A fault that the work does not expect is logged, and the work is tried again: the bridge needs it.

    fault  the last one, for people; empty when it is over
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        """Make the thread; it begins with `start`.

        name  of what is done, such as "following alerts"
        work  is called again whenever it returns; it calls `working` while it works, and ends when `closing`
        """
        self.fault = ""
        self._name = name
        self._work = work
        self._failed_at = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    @property
    def closing(self) -> bool:
        """Whether the work has to end."""
        return self._closing.is_set()

    def wait(self, seconds: float) -> None:
        """Wait on the thread, no longer than until `close`."""
        self._closing.wait(seconds)

    def working(self) -> None:
        """Note that the work goes on; a fault is over once it has gone on for SETTLED_S."""
        if self.fault and time.monotonic() - self._failed_at > SETTLED_S:
            self.fault = ""

    def close(self) -> None:
        """End the work and the thread."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self.closing:
            try:
                self._work()
            except Exception as exc:
                fault = f"a fault while {self._name}: {reason_of(exc)}; the log of the bridge has more"
                if fault != self.fault:
                    log.exception("%s", self._name)
                self.fault, self._failed_at = fault, time.monotonic()
                self.wait(RETRY_S)
