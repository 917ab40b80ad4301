"""Bodies that are still coming: each in good time, and not too many at once.

They take no place among the requests that wait for a stage, so a client that stops in the middle of a body keeps
nobody else from being served.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import StreamReader, web
from prometheus_client import CollectorRegistry, Gauge

from http_bridge.refusals import Refusal

LEAST_RATE = 16 * 2**10
"""Bytes that a body gains a second more for, so that 20 MB may take twenty minutes over a slow line."""


class _Body:
    """One that is still coming."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self.given_up = False

    @property
    def due(self) -> float:
        """When it has to be there, on the event loop's clock."""
        return self._timeout.when() or 0.0

    def came(self, count: int) -> None:
        """So many bytes have come."""
        if not self.given_up:
            self._timeout.reschedule(self.due + count / LEAST_RATE)

    def give_up(self) -> None:
        """End it now."""
        self.given_up = True
        self._timeout.reschedule(asyncio.get_running_loop().time())


class Arrivals:
    """Ends bodies that do not come in time; where too many are coming, the one that is furthest behind."""

    def __init__(self, *, timeout_s: float, bound: int) -> None:
        self._timeout_s = timeout_s
        self._bound = bound
        self._coming: set[_Body] = set()

    def show(self, registry: CollectorRegistry) -> None:
        """Have the metrics tell how many are coming."""
        gauge = Gauge("imagetools_http_bodies_coming", "Bodies of requests that are still coming.", registry=registry)
        gauge.set_function(lambda: len(self._coming))

    @asynccontextmanager
    async def watch(self, content: StreamReader) -> AsyncIterator[Callable[[int], None]]:
        """For as long as a body is read, which has to tell how many bytes have come. Refusal 408."""
        if content.is_eof():
            yield lambda _: None
            return
        if len(self._coming) >= self._bound:
            furthest = min(self._coming, key=lambda body: body.due)
            self._coming.discard(furthest)
            furthest.give_up()
        body: _Body | None = None
        try:
            async with asyncio.timeout(self._timeout_s) as timeout:
                body = _Body(timeout)
                self._coming.add(body)
                yield body.came
        except TimeoutError as exc:
            if body is not None and body.given_up:
                raise Refusal(408, f"{self._bound} bodies are coming, and this one was the furthest behind") from exc
            raise Refusal(
                408, f"the body did not come in time: {self._timeout_s:g} s, and one more for {LEAST_RATE:,} bytes"
            ) from exc
        finally:
            if body is not None:
                self._coming.discard(body)


ARRIVALS = web.AppKey("arrivals", Arrivals)
