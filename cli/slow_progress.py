"""Lines on how far slow work is."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

FIRST_AFTER_S: Final = 1.0
SLOW_S: Final = 2.0
EVERY_S: Final = 10.0


@contextmanager
def said_if_slow(say: Callable[[str], None], text: str, after_s: float = SLOW_S) -> Iterator[None]:
    """Say the text, on another thread, when the work in the context takes longer than usual."""
    timer = threading.Timer(after_s, say, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class SlowProgress:
    """Says how far work is that may take long: nothing at first, then a line every EVERY_S."""

    def __init__(self, say: Callable[[str], None], first_after_s: float = FIRST_AFTER_S) -> None:
        self._say = say
        self._next = time.monotonic() + first_after_s

    def show(self, text: str) -> None:
        """Say the text if it is time to."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + EVERY_S
            self._say(text)
