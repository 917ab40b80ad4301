"""Who works next in a stage: its batch, slice by slice, or the requests that overtake it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

SLICE_S = 0.05
"""How long a request may have to wait for the batch, and the batch for a request's next part."""

MOST_CREDIT_S = 1.0
"""Time that requests may use up in one go, once the batch has had as much."""


class Turns:
    """One piece of work at a time, of a batch or of a request; a waiting request goes first.

    Requests get at most half of the time while a batch waits: what they have used up, the batch gets before the next.

    asking  requests that wait for their turn
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy = False
        self.asking = 0
        self._waiting = 0
        self._credit = MOST_CREDIT_S

    @contextmanager
    def batch(self) -> Iterator[None]:
        """A slice of the batch; it should be over within SLICE_S."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not self._busy and (not self.asking or self._credit <= 0))
            self._waiting -= 1
            self._busy = True
        began = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                self._credit = min(MOST_CREDIT_S, self._credit + time.monotonic() - began)
                self._busy = False
                self._changed.notify_all()

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request's answer, or a part of one."""
        with self._changed:
            self.asking += 1
            self._changed.wait_for(lambda: not self._busy and (self._credit > 0 or not self._waiting))
            self.asking -= 1
            self._busy = True
        began = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                if self._waiting:
                    self._credit = max(-MOST_CREDIT_S, self._credit - (time.monotonic() - began))
                self._busy = False
                self._changed.notify_all()


class Sliced:
    """Takes a batch through one kind of work in slices of about SLICE_S, each in a turn of its own.

    How large a slice may be is learnt from those before it.

    most  items that a slice has at most, however quick they are
    """

    def __init__(self, turns: Turns, most: int) -> None:
        self._turns = turns
        self._most = most
        self._size = float(max(1, most // 4))

    def map(self, work: Callable[[Sequence[T]], Sequence[U]], items: Sequence[T]) -> list[U]:
        """What `work` gives for each item, in order."""
        done: list[U] = []
        while len(done) < len(items):
            piece = items[len(done) : len(done) + max(1, int(self._size))]
            with self._turns.batch():
                began = time.monotonic()
                done.extend(work(piece))
                self._learn(len(piece), time.monotonic() - began)
        return done

    def _learn(self, count: int, seconds: float) -> None:
        """Aim the next slice at SLICE_S; a slow one at once, a quick one by and by."""
        fitting = count * SLICE_S / max(seconds, 1e-6)
        self._size = min(float(self._most), max(1.0, min(fitting, 2 * self._size)))
