"""Who works next in a stage: its batch, slice by slice, or the requests that overtake it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

SLICE_S = 0.03
"""How long a request may have to wait for the batch. On a processor the encoder gains little from more than a few
images at once."""

QUIET_S = 60.0
"""Without a request for so long, a batch is not sliced: who never asks does not pay for those who might."""

MOST_CREDIT_S = 1.0
"""How long requests may keep the batch waiting in one go, once it has worked as long."""


class Turns:
    """A slice of the batch or requests at work; requests that wait go first.

    exclusive  one piece of work at a time; otherwise requests begin at once, beside the slice at hand and each other,
               and only the next slice waits for them
    asking     requests that wait for their turn

    Requests keep the batch waiting for at most half of the time: what it has waited, it works before it waits again.
    """

    def __init__(self, *, exclusive: bool = True) -> None:
        self._exclusive = exclusive
        self._changed = threading.Condition()
        self._slices = 0
        self._requests = 0
        self.asking = 0
        self._waiting = 0
        self._since = 0.0
        self._credit = MOST_CREDIT_S
        self._asked = float("-inf")

    @property
    def quiet(self) -> bool:
        """Whether nobody has asked for a while."""
        return time.monotonic() - self._asked > QUIET_S

    @contextmanager
    def batch(self) -> Iterator[None]:
        """A slice of the batch; it should be over within SLICE_S."""
        with self._changed:
            self._begin_waiting()
            while not self._batch_may(left := self._left()):
                # the end of the requests' credit is nobody's doing: no one else would tell of it
                self._changed.wait(left if left > 0 else None)
            self._end_waiting()
            self._slices += 1
            # beside a slice, requests may begin once it no longer waits
            self._changed.notify_all()
        began = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                self._credit = min(MOST_CREDIT_S, self._credit + time.monotonic() - began)
                self._slices -= 1
                self._changed.notify_all()

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request's answer, or a part of one."""
        with self._changed:
            self.asking += 1
            self._asked = time.monotonic()
            self._changed.wait_for(self._request_may)
            self.asking -= 1
            self._requests += 1
        try:
            yield
        finally:
            with self._changed:
                self._requests -= 1
                self._changed.notify_all()

    def _batch_may(self, left: float) -> bool:
        if self._slices or (self._exclusive and self._requests):
            return False
        return not (self.asking or self._requests) or left <= 0

    def _request_may(self) -> bool:
        if self._exclusive and (self._slices or self._requests):
            return False
        return not self._waiting or self._left() > 0

    def _left(self) -> float:
        """How much longer the batch may be kept waiting, seconds."""
        return self._credit - (time.monotonic() - self._since if self._waiting else 0.0)

    def _begin_waiting(self) -> None:
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting += 1

    def _end_waiting(self) -> None:
        self._credit, self._since = max(-MOST_CREDIT_S, self._left()), time.monotonic()
        self._waiting -= 1


class Sliced:
    """Takes a batch through one kind of work in slices of about SLICE_S, each in a turn of its own; whole while quiet.

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
            size = len(items) if self._turns.quiet else max(1, int(self._size))
            piece = items[len(done) : len(done) + size]
            with self._turns.batch():
                began = time.monotonic()
                done.extend(work(piece))
                self._learn(len(piece), time.monotonic() - began)
        return done

    def _learn(self, count: int, seconds: float) -> None:
        """Aim the next slice at SLICE_S; a slow one at once, a quick one by and by."""
        fitting = count * SLICE_S / max(seconds, 1e-6)
        self._size = min(float(self._most), max(1.0, min(fitting, 2 * self._size)))
