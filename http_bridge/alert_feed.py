"""Follows alerts and dead letters, and passes them on to any number of subscribers, with events of groups."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count, islice
from operator import itemgetter

import msgspec
from aiohttp import web
from confluent_kafka import KafkaException

from http_bridge.background import RETRY_S, Background
from http_bridge.dead_letter_tables import DeadLetterAnswer, dead_letter_answer
from http_bridge.group_answers import DecisionAnswer, GroupEventAnswer
from imagetools.errors import ERROR_TYPES, PrerequisiteMissing, RegistryAway
from schemas.alert_json import alert_fields
from schemas.records import Duplicates
from streams.config import KafkaConfig
from streams.kafka.admin import reach
from streams.kafka.dead_letters import read_dead_letter
from streams.kafka.errors import reason_of
from streams.kafka.follower import ConsumedMessage, Follower
from streams.kafka.messages import announced_headers
from streams.topics import DEAD_LETTERS, DUPLICATES, READS

log = logging.getLogger(__name__)

MAX_KEPT = 100
"""Past events of each kind, for clients that reconnect and for the page at first."""

MAX_QUEUED = 1000
"""Events that may wait for a slow subscriber; then its stream ends, and it reconnects."""

MAX_NEWEST = 5
"""Newest dead letters, in /v1/status."""

ALERT, DEAD_LETTER, GROUP, DECISION = "alert", "dead-letter", "group", "decision"
KINDS = (ALERT, DEAD_LETTER, GROUP, DECISION)
OTHER_LABEL = "other"
POLL_S = 0.1


@dataclass(frozen=True)
class Event:
    """An alert, a dead letter, what became of a group, or a decision.

    id    partition and offset, after a letter for all but alerts: the same in every bridge
    data  JSON
    kind  one of KINDS
    """

    id: str
    data: bytes
    kind: str = ALERT


Subscription = asyncio.Queue[Event | None]
"""Events in order; None is the end."""


class AlertFeed:
    """Follows the topics on a thread, and publishes on the event loop.

    count   alerts since the start
    dead    dead letters since the start, by stage and type of error
    newest  dead letters, the newest first
    """

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka
        self._loop = asyncio.get_running_loop()
        # one queue for each kind: many dead letters do not push alerts out
        self._kept: dict[str, deque[tuple[int, Event]]] = {kind: deque(maxlen=MAX_KEPT) for kind in KINDS}
        self._kept_ids: set[str] = set()
        self._numbers = count()
        self._subscriptions: set[Subscription] = set()
        self.count = 0
        self.dead: Counter[tuple[str, str]] = Counter()
        self.newest: deque[dict[str, str]] = deque(maxlen=MAX_NEWEST)
        self._background = Background("following alerts", self._follow)
        self._background.start()

    @property
    def fault(self) -> str:
        """What went wrong on the thread; empty while it works."""
        return self._background.fault

    @contextmanager
    def subscribe(self, last_id: str | None, recent: int) -> Iterator[Subscription]:
        """Receive events while the context is open.

        last_id  start after this event, as far back as events are kept
        recent   without a last_id, start with at most this many past events of each kind
        """
        subscription: Subscription = asyncio.Queue(MAX_QUEUED)
        for event in self._past(last_id, recent):
            subscription.put_nowait(event)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def end_subscriptions(self) -> None:
        """End every subscriber's stream."""
        for subscription in self._subscriptions:
            _end(subscription)

    def publish(self, event: Event) -> None:
        """Publish an event; from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._publish, event)

    def close(self) -> None:
        """Stop the thread and close the connection."""
        self._background.close()

    def _past(self, last_id: str | None, recent: int) -> list[Event]:
        kept = sorted(chain.from_iterable(self._kept.values()), key=itemgetter(0))
        numbers = {event.id: number for number, event in kept}
        if last_id in numbers:
            return [event for number, event in kept if number > numbers[last_id]]
        most = MAX_KEPT if last_id else recent
        chosen = {event.id for one in self._kept.values() for _, event in islice(reversed(one), most)}
        return [event for _, event in kept if event.id in chosen]

    def _publish(self, event: Event, letter: dict[str, str] | None = None) -> None:
        if event.id in self._kept_ids:
            # published before Kafka was away
            return
        kept = self._kept[event.kind]
        if len(kept) == MAX_KEPT:
            self._kept_ids.discard(kept[0][1].id)
        kept.append((next(self._numbers), event))
        self._kept_ids.add(event.id)
        self.count += event.kind == ALERT
        if letter is not None:
            self.newest.appendleft(letter)
            self.dead[_labels(letter)] += 1
        for subscription in self._subscriptions:
            if subscription.full():
                _end(subscription)
            else:
                subscription.put_nowait(event)

    # on the thread

    def _follow(self) -> None:
        try:
            follower = Follower(reach(self._kafka), [DUPLICATES, DEAD_LETTERS], last=MAX_KEPT, patient=True)
        except (PrerequisiteMissing, KafkaException) as exc:
            log.info("no alerts at the moment: %s", exc)
            self._background.wait(RETRY_S)
            return
        try:
            while not self._background.closing:
                self._read(follower)
                self._background.working()
        except (KafkaException, RegistryAway) as exc:
            log.warning("alerts: %s", reason_of(exc))
            self._background.wait(RETRY_S)
        finally:
            follower.close()

    def _read(self, follower: Follower) -> None:
        for seen in follower.read(POLL_S):
            if isinstance(seen.record, Duplicates):
                self.publish(_alert_event(seen))
            elif seen.topic is DEAD_LETTERS:
                letter = read_dead_letter(seen.message)
                answer = dead_letter_answer(self._kafka, seen)
                self._loop.call_soon_threadsafe(self._publish, _dead_letter_event(seen, answer), letter)


def _alert_event(seen: ConsumedMessage) -> Event:
    fields = alert_fields(seen.record) | {"headers": announced_headers(seen.message)}
    name = f"{seen.message.partition()}-{seen.message.offset()}"
    return Event(name, msgspec.json.encode(fields))


def _dead_letter_event(seen: ConsumedMessage, answer: DeadLetterAnswer) -> Event:
    return Event(f"d{seen.message.partition()}-{seen.message.offset()}", msgspec.json.encode(answer), DEAD_LETTER)


def group_event(offset: int, answer: GroupEventAnswer) -> Event:
    """Return the event for what became of a group, by its message's offset."""
    return Event(f"g0-{offset}", msgspec.json.encode(answer), GROUP)


def decision_event(answer: DecisionAnswer) -> Event:
    """Return the event for a decision."""
    return Event(f"c0-{answer.number}", msgspec.json.encode(answer), DECISION)


def _labels(letter: dict[str, str]) -> tuple[str, str]:
    """Return stage and type of error for the metrics; unknown ones share a label, so that clients cannot add any."""
    stage, kind = letter["stage"], letter["error_type"]
    return stage if stage in READS else OTHER_LABEL, kind if kind in ERROR_TYPES else OTHER_LABEL


def _end(subscription: Subscription) -> None:
    while subscription.full():
        subscription.get_nowait()
    subscription.put_nowait(None)


ALERT_FEED = web.AppKey("alert_feed", AlertFeed)
