"""Limits on request bodies that are still arriving: how long each may take, and how many arrive at a time.

A body that is still arriving takes no slot among the requests that wait for a stage, so a client that stops in the
middle of one blocks nobody else.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import StreamReader, web
from prometheus_client import CollectorRegistry, Gauge

from http_bridge.errors import HttpError

MIN_BYTES_PER_S = 16 * 2**10
"""A body's deadline moves by a second for this many bytes, so that 20 MB may take twenty minutes over a slow line."""


class _Body:
    """A body that is still arriving."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self.evicted = False

    @property
    def deadline(self) -> float:
        """On the event loop's clock."""
        return self._timeout.when() or 0.0

    def received(self, count: int) -> None:
        """Extend the deadline for `count` bytes."""
        if not self.evicted:
            self._timeout.reschedule(self.deadline + count / MIN_BYTES_PER_S)

    def evict(self) -> None:
        """End it now."""
        self.evicted = True
        self._timeout.reschedule(asyncio.get_running_loop().time())


class IncomingBodies:
    """Ends bodies that arrive too slowly; past the limit on their number, the one that is furthest behind."""

    def __init__(self, *, timeout_s: float, max_bodies: int) -> None:
        self._timeout_s = timeout_s
        self._max_bodies = max_bodies
        self._bodies: set[_Body] = set()

    def register_metrics(self, registry: CollectorRegistry) -> None:
        """Add the number of arriving bodies to the metrics."""
        gauge = Gauge("imagetools_http_bodies_coming", "Request bodies that are still arriving.", registry=registry)
        gauge.set_function(lambda: len(self._bodies))

    @asynccontextmanager
    async def limit(self, content: StreamReader) -> AsyncIterator[Callable[[int], None]]:
        """Apply the limits while a body is read; the caller reports how many bytes it read. HttpError 408."""
        if content.is_eof():
            yield lambda _: None
            return
        if len(self._bodies) >= self._max_bodies:
            furthest_behind = min(self._bodies, key=lambda body: body.deadline)
            self._bodies.discard(furthest_behind)
            furthest_behind.evict()
        body: _Body | None = None
        try:
            async with asyncio.timeout(self._timeout_s) as timeout:
                body = _Body(timeout)
                self._bodies.add(body)
                yield body.received
        except TimeoutError as exc:
            if body is not None and body.evicted:
                raise HttpError(
                    408, f"{self._max_bodies} bodies are arriving, and this one was the furthest behind"
                ) from exc
            raise HttpError(
                408,
                f"the body did not arrive in time: {self._timeout_s:g} s, and a second more for every "
                f"{MIN_BYTES_PER_S:,} bytes",
            ) from exc
        finally:
            if body is not None:
                self._bodies.discard(body)


INCOMING_BODIES = web.AppKey("incoming_bodies", IncomingBodies)
