"""Shares a stage between its batch, cut into slices, and the requests that overtake it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

SLICE_S = 0.03
"""How long a slice should take, and so how long a request waits for the batch. On a processor the encoder gains little
from more than a few images at a time."""

RECENT_S = 60.0
"""After this long without a request, batches run whole."""

MAX_CREDIT_S = 1.0
"""How long requests may keep the batch waiting at a stretch, once the batch has run as long."""


class SliceScheduler:
    """Decides who runs: a slice of the batch, or the requests. Waiting requests go first.

    exclusive        only one piece of work runs at a time; otherwise requests start at once, beside the current slice
                     and each other, and only the next slice waits for them
    queued_requests  requests that wait to run

    Requests keep the batch waiting for at most half of the time. They spend a credit that grows while the batch runs.
    """

    def __init__(self, *, exclusive: bool = True) -> None:
        self._exclusive = exclusive
        self._changed = threading.Condition()
        self._running_slices = 0
        self._running_requests = 0
        self.queued_requests = 0
        self._queued_slices = 0
        self._queued_since = 0.0
        self._credit = MAX_CREDIT_S
        self._last_request = float("-inf")

    @property
    def has_recent_requests(self) -> bool:
        """Whether a request came within the last RECENT_S."""
        return time.monotonic() - self._last_request <= RECENT_S

    @contextmanager
    def batch_slice(self) -> Iterator[None]:
        """Run a slice of the batch; it should take at most SLICE_S."""
        with self._changed:
            self._enqueue_slice()
            while not self._may_run_slice(left := self._credit_left()):
                # no thread signals the end of the credit, so wait no longer than that
                self._changed.wait(left if left > 0 else None)
            self._dequeue_slice()
            self._running_slices += 1
            # requests that may run beside a slice can start now that it no longer waits
            self._changed.notify_all()
        began = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                self._credit = min(MAX_CREDIT_S, self._credit + time.monotonic() - began)
                self._running_slices -= 1
                self._changed.notify_all()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Run a request, or a part of one."""
        with self._changed:
            self.queued_requests += 1
            self._last_request = time.monotonic()
            self._changed.wait_for(self._may_run_request)
            self.queued_requests -= 1
            self._running_requests += 1
        try:
            yield
        finally:
            with self._changed:
                self._running_requests -= 1
                self._changed.notify_all()

    def _may_run_slice(self, credit_left: float) -> bool:
        if self._running_slices or (self._exclusive and self._running_requests):
            return False
        return not (self.queued_requests or self._running_requests) or credit_left <= 0

    def _may_run_request(self) -> bool:
        if self._exclusive and (self._running_slices or self._running_requests):
            return False
        return not self._queued_slices or self._credit_left() > 0

    def _credit_left(self) -> float:
        """How much longer requests may keep the batch waiting, seconds."""
        return self._credit - (time.monotonic() - self._queued_since if self._queued_slices else 0.0)

    def _enqueue_slice(self) -> None:
        if not self._queued_slices:
            self._queued_since = time.monotonic()
        self._queued_slices += 1

    def _dequeue_slice(self) -> None:
        self._credit, self._queued_since = max(-MAX_CREDIT_S, self._credit_left()), time.monotonic()
        self._queued_slices -= 1


class BatchSlicer:
    """Runs one kind of work on a batch in slices of about SLICE_S; without recent requests, on the whole batch.

    The size of a slice follows from how long the earlier ones took.
    max_items  of one slice, however quick the work is
    """

    def __init__(self, scheduler: SliceScheduler, max_items: int) -> None:
        self._scheduler = scheduler
        self._max_items = max_items
        self._size = float(max(1, max_items // 4))

    def map(self, work: Callable[[Sequence[T]], Sequence[U]], items: Sequence[T]) -> list[U]:
        """Return what `work` gives for each item, in order."""
        done: list[U] = []
        while len(done) < len(items):
            size = max(1, int(self._size)) if self._scheduler.has_recent_requests else len(items)
            piece = items[len(done) : len(done) + size]
            with self._scheduler.batch_slice():
                began = time.monotonic()
                done.extend(work(piece))
                self._adjust(len(piece), time.monotonic() - began)
        return done

    def _adjust(self, count: int, seconds: float) -> None:
        """Aim the next slice at SLICE_S: shrink it at once, at most double it."""
        fitting = count * SLICE_S / max(seconds, 1e-6)
        self._size = min(float(self._max_items), max(1.0, min(fitting, 2 * self._size)))
