"""Alerts and dead letters as they come, for any number of clients: one reader of the topics, and Server-Sent Events."""

import asyncio
import logging
import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count, islice
from operator import itemgetter

import msgspec
from aiohttp import web
from confluent_kafka import KafkaException

from http_bridge.refusals import Refusal
from imagetools.errors import ERROR_TYPES, PrerequisiteMissing, RegistryAway
from schemas.records import Duplicates, to_plain
from streams.config import KafkaConfig
from streams.kafka.follower import Follower, Seen, dead_letter, reach
from streams.states import reason_of
from streams.topics import DEAD_LETTERS, DUPLICATES, READS

log = logging.getLogger(__name__)

KEPT = 100
"""Alerts, and as many dead letters, that a client may still get after it was away, and a page shows at first."""

BEHIND = 1000
"""Alerts that may wait for a slow client; then it is let go, and comes back by itself."""

ALERT, DEAD_LETTER = "alert", "dead-letter"
SHOWN = 5
"""Newest dead letters, in /v1/status."""

OTHER = "other"
BEAT_S = 15.0
RETRY_S = 1.0


@dataclass(frozen=True)
class Event:
    """One alert or dead letter as clients get it.

    name  partition and offset, of a dead letter after a d: the same for every bridge
    kind  alert or dead-letter
    """

    name: str
    data: bytes
    kind: str = ALERT

    def line(self) -> bytes:
        """As Server-Sent Events spell it; JSON has no line break."""
        return b"id: %s\nevent: %s\ndata: %s\n\n" % (self.name.encode(), self.kind.encode(), self.data)


class Alerts:
    """Follows the topics on a thread; clients are told on the event loop.

    count  alerts seen since the start
    dead   dead letters seen since the start, by stage and type of error
    newest dead letters, the newest first
    """

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka
        self._loop = asyncio.get_running_loop()
        # of each kind apart: a thousand wrong names push no alert out
        self._kept: dict[str, deque[tuple[int, Event]]] = {kind: deque(maxlen=KEPT) for kind in (ALERT, DEAD_LETTER)}
        self._names: set[str] = set()
        self._numbers = count()
        self._clients: set[asyncio.Queue[Event | None]] = set()
        self.count = 0
        self.dead: Counter[tuple[str, str]] = Counter()
        self.newest: deque[dict[str, str]] = deque(maxlen=SHOWN)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="alerts")
        self._thread.start()

    @contextmanager
    def listen(self, after: str | None, recent: int) -> Iterator[asyncio.Queue[Event | None]]:
        """A queue of events, None at the end: those after a named one, or this many recent ones of each kind, first."""
        waiting: asyncio.Queue[Event | None] = asyncio.Queue(BEHIND)
        kept = sorted(chain.from_iterable(self._kept.values()), key=itemgetter(0))
        numbers = {event.name: number for number, event in kept}
        if after in numbers:
            first = [event for number, event in kept if number > numbers[after]]
        else:
            most = KEPT if after else recent
            chosen = {event.name for one in self._kept.values() for _, event in islice(reversed(one), most)}
            first = [event for _, event in kept if event.name in chosen]
        for event in first:
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

    def _tell(self, event: Event, letter: dict[str, str] | None = None) -> None:
        if event.name in self._names:
            # seen before Kafka was away
            return
        kept = self._kept[event.kind]
        if len(kept) == KEPT:
            self._names.discard(kept[0][1].name)
        kept.append((next(self._numbers), event))
        self._names.add(event.name)
        if letter is None:
            self.count += 1
        else:
            self.newest.appendleft(letter)
            self.dead[_known(letter)] += 1
        for waiting in self._clients:
            if waiting.full():
                _end(waiting)
            else:
                waiting.put_nowait(event)

    # on the thread

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                follower = Follower(reach(self._kafka), [DUPLICATES, DEAD_LETTERS], last=KEPT, patient=True)
            except (PrerequisiteMissing, KafkaException) as exc:
                log.info("no alerts at the moment: %s", exc)
                self._closing.wait(RETRY_S)
                continue
            try:
                while not self._closing.is_set():
                    for seen in follower.read(0.1):
                        if isinstance(seen.record, Duplicates):
                            self._loop.call_soon_threadsafe(self._tell, _event(seen))
                        elif seen.topic is DEAD_LETTERS:
                            letter = dead_letter(seen.message)
                            self._loop.call_soon_threadsafe(self._tell, _dead(seen, letter), letter)
            except (KafkaException, RegistryAway) as exc:
                log.warning("alerts: %s", reason_of(exc))
                self._closing.wait(RETRY_S)
            finally:
                follower.close()


def _event(seen: Seen) -> Event:
    alert = seen.record
    plain = to_plain(alert) | {"time": alert.time.isoformat(timespec="milliseconds")}
    return Event(f"{seen.message.partition()}-{seen.message.offset()}", msgspec.json.encode(plain))


def _dead(seen: Seen, letter: dict[str, str]) -> Event:
    return Event(f"d{seen.message.partition()}-{seen.message.offset()}", msgspec.json.encode(letter), DEAD_LETTER)


def _known(letter: dict[str, str]) -> tuple[str, str]:
    """Stage and type of error, as far as they are ours: a client that can write to the topic must not make labels."""
    stage, kind = letter["stage"], letter["error_type"]
    return stage if stage in READS else OTHER, kind if kind in ERROR_TYPES else OTHER


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
