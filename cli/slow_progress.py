"""Lines on how far slow work is."""

import time
from collections.abc import Callable
from typing import Final

FIRST_AFTER_S: Final = 1.0
EVERY_S: Final = 10.0


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
