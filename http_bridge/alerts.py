"""Alerts as they come, for any number of clients: one reader of the topic, and Server-Sent Events."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import msgspec
from aiohttp import web
from confluent_kafka import KafkaException

from http_bridge.refusals import Refusal
from imagetools.errors import PrerequisiteMissing
from schemas.records import Duplicates, to_plain
from streams.config import KafkaConfig
from streams.follow import Follower, Seen, reach
from streams.topics import DUPLICATES

log = logging.getLogger(__name__)

KEPT = 100
"""Alerts that a client may still get after it was away, and a page shows when it is opened."""

BEHIND = 1000
"""Alerts that may wait for a slow client; then it is let go, and comes back by itself."""

BEAT_S = 15.0
RETRY_S = 1.0


@dataclass(frozen=True)
class Event:
    """One alert as clients get it.

    name  partition and offset: the same for every bridge
    """

    name: str
    data: bytes

    def line(self) -> bytes:
        """As Server-Sent Events spell it; JSON has no line break."""
        return b"id: %s\nevent: alert\ndata: %s\n\n" % (self.name.encode(), self.data)


class Alerts:
    """Follows the topic on a thread; clients are told on the event loop.

    count  alerts seen since the start
    """

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka
        self._loop = asyncio.get_running_loop()
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._names: set[str] = set()
        self._clients: set[asyncio.Queue[Event | None]] = set()
        self.count = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="alerts")
        self._thread.start()

    @contextmanager
    def listen(self, after: str | None, recent: int) -> Iterator[asyncio.Queue[Event | None]]:
        """A queue of alerts, None at the end: those after a named one or, without it, so many recent ones, first."""
        waiting: asyncio.Queue[Event | None] = asyncio.Queue(BEHIND)
        names = [event.name for event in self._kept]
        start = names.index(after) + 1 if after in names else max(0, len(names) - (KEPT if after else recent))
        for event in islice(self._kept, start, None):
            waiting.put_nowait(event)
        self._clients.add(waiting)
        try:
            yield waiting
        finally:
            self._clients.discard(waiting)

    def hush(self) -> None:
        """End every client's stream."""
        for waiting in self._clients:
            _end(waiting)

    def close(self) -> None:
        """Let go of the topic."""
        self._closing.set()
        self._thread.join()

    def _tell(self, event: Event) -> None:
        if event.name in self._names:
            # seen before Kafka was away
            return
        if len(self._kept) == KEPT:
            self._names.discard(self._kept[0].name)
        self._kept.append(event)
        self._names.add(event.name)
        self.count += 1
        for waiting in self._clients:
            if waiting.full():
                _end(waiting)
            else:
                waiting.put_nowait(event)

    # on the thread

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                follower = Follower(reach(self._kafka), [DUPLICATES], last=KEPT, patient=True)
            except (PrerequisiteMissing, KafkaException) as exc:
                log.info("no alerts at the moment: %s", exc)
                self._closing.wait(RETRY_S)
                continue
            try:
                while not self._closing.is_set():
                    for seen in follower.read(0.1):
                        if isinstance(seen.record, Duplicates):
                            self._loop.call_soon_threadsafe(self._tell, _event(seen))
            except KafkaException as exc:
                log.warning("alerts: %s", exc.args[0].str())
            finally:
                follower.close()


def _event(seen: Seen) -> Event:
    alert = seen.record
    plain = to_plain(alert) | {"time": alert.time.isoformat(timespec="milliseconds")}
    return Event(f"{seen.message.partition()}-{seen.message.offset()}", msgspec.json.encode(plain))


def _end(waiting: asyncio.Queue[Event | None]) -> None:
    while waiting.full():
        waiting.get_nowait()
    waiting.put_nowait(None)


ALERTS = web.AppKey("alerts", Alerts)


async def stream(request: web.Request) -> web.StreamResponse:
    """GET /v1/duplicates/stream."""
    text = request.query.get("recent", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= KEPT):
        raise Refusal(422, f"recent: a whole number from 0 to {KEPT} is needed")
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    with request.app[ALERTS].listen(request.headers.get("Last-Event-ID"), int(text)) as waiting:
        try:
            await response.prepare(request)
            await response.write(b"retry: 2000\n\n")
            while (line := await _next(waiting)) is not None:
                await response.write(line)
        except ConnectionError:
            log.debug("a client of the stream has gone")
    return response


async def _next(waiting: asyncio.Queue[Event | None]) -> bytes | None:
    try:
        event = await asyncio.wait_for(waiting.get(), BEAT_S)
    except TimeoutError:
        # tells a client, and what stands between, that the line is alive
        return b": still here\n\n"
    return None if event is None else event.line()
