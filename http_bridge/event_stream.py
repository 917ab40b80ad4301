"""GET /v1/duplicates/stream: alerts, dead letters, groups and decisions as Server-Sent Events."""

import asyncio
import logging

from aiohttp import web

from http_bridge.alert_feed import ALERT_FEED, MAX_KEPT, Event, Subscription
from http_bridge.errors import HttpError

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 15.0
"""A comment after this long without an event keeps proxies from closing the connection."""

RETRY_MS = 2000
"""How long a browser waits before it reconnects."""


async def stream(request: web.Request) -> web.StreamResponse:
    """Handle GET /v1/duplicates/stream."""
    recent = _recent(request)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    with request.app[ALERT_FEED].subscribe(request.headers.get("Last-Event-ID"), recent) as subscription:
        try:
            await response.prepare(request)
            await response.write(b"retry: %d\n\n" % RETRY_MS)
            while (block := await _next_block(subscription)) is not None:
                await response.write(block)
        except ConnectionError:
            log.debug("a client of the stream has gone")
    return response


def _recent(request: web.Request) -> int:
    text = request.query.get("recent", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= MAX_KEPT):
        raise HttpError(422, f"recent: a whole number from 0 to {MAX_KEPT} is needed")
    return int(text)


async def _next_block(subscription: Subscription) -> bytes | None:
    try:
        event = await asyncio.wait_for(subscription.get(), KEEP_ALIVE_S)
    except TimeoutError:
        return b": keep-alive\n\n"
    return None if event is None else _format(event)


def _format(event: Event) -> bytes:
    # JSON has no line breaks, so the data fits one line
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (event.id.encode(), event.kind.encode(), event.data)
