"""Requests are answered beside a stage: by threads of their own, outside its transactions, ahead of its backlog.

Nothing here is exactly once, and nothing needs to be: a request changes nothing, a second reply finds nobody waiting,
and one past its deadline is dropped.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from imagetools.errors import ImageRootUnavailable, MessageError, RegistryAway
from schemas.codec import codec
from schemas.records import Answered, Envelope, Reply, Request
from streams.settings import KafkaConfig
from streams.stage import Stage
from streams.topics import ANSWERS, REPLIES, SHORT_LIVED, requests_group

log = logging.getLogger(__name__)

POLL_S = 0.1
TICK_S = 0.05
WAITING = 64
"""Requests that a process takes from Kafka ahead of its threads; the rest wait there, for any process."""

MOST_BYTES = 900_000
"""Of one message, so that a broker's default limit of 1 MB does."""

OLDEST_MS = int(SHORT_LIVED["retention.ms"])


Beside = Callable[[Callable[[], None]], AbstractContextManager[object]]
"""Makes what is entered while a runner loops; it is given what stops the runner."""


class Desk(AbstractContextManager["Desk"]):
    """Answers a stage's requests from entering to leaving.

    A fault of the Kafka client stops the stage and is raised on leaving. A fault while answering is told to the one
    who asked and logged: no request may end a stage that thousands of images wait for.
    """

    def __init__(self, stage: Stage[Any], kafka: KafkaConfig, stop: Callable[[], None]) -> None:
        """stop: called from a thread where the desk cannot go on."""
        self._stage = stage
        self._kafka = kafka
        self._stop = stop
        self._asked = ANSWERS[stage.name]
        self._topic = kafka.topic(self._asked.name)
        self._replies = kafka.topic(REPLIES.name)
        self._codec = codec(kafka.registry)
        self._waiting: queue.Queue[Request] = queue.Queue(WAITING)
        self._open = True
        self._failure: BaseException | None = None
        self._last_error = ""
        self._threads = [threading.Thread(target=self._guard, args=(self._take,), name="requests")]
        self._threads += [
            threading.Thread(target=self._guard, args=(self._serve,), name=f"answer-{n}")
            for n in range(stage.answer_threads)
        ]

    def __enter__(self) -> "Desk":
        self._consumer = Consumer(_consumer_settings(self._kafka, self._stage.name))
        self._producer = Producer(
            self._kafka.client(linger_ms=0, socket_nagle_disable=True, acks="1", partitioner="murmur2_random")
        )
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        for thread in self._threads:
            thread.join()
        self._producer.flush(1.0)
        self._consumer.close()
        if self._failure is not None and exc is None:
            raise self._failure

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as exc:
            self._failure = self._failure or exc
            self._open = False
            self._stop()

    # taking requests

    def _take(self) -> None:
        shared = self._stage.attends() is None
        if shared:
            self._consumer.subscribe([self._topic])
        here = False
        while self._open:
            if not shared and here != (attends := bool(self._stage.attends())):
                here = attends
                self._attend(here)
            message = self._consumer.poll(POLL_S)
            self._producer.poll(0)
            if message is None:
                continue
            if message.error() is not None:
                self._heed(message.error())
            elif (request := self._read(message)) is not None:
                self._put(request)

    def _attend(self, here: bool) -> None:
        """Take the topic's partitions without a group: a group could give them to a process with no index."""
        if not here:
            self._consumer.unassign()
            return
        since = int(time.time() * 1000) - OLDEST_MS
        parts = [TopicPartition(self._topic, number, since) for number in range(self._asked.partitions)]
        try:
            self._consumer.assign(self._consumer.offsets_for_times(parts, timeout=10))
        except KafkaException as exc:
            # without the topic, as before this version, or with a broker that is away: from what comes next
            self._heed(exc.args[0])
            self._consumer.assign([TopicPartition(self._topic, number) for number in range(self._asked.partitions)])

    def _heed(self, error: KafkaError | None) -> None:
        if error is None:
            return
        if error.fatal():
            raise KafkaException(error)
        if (text := error.str()) != self._last_error:
            self._last_error = text
            log.warning("%s: no requests at the moment: %s", self._stage.name, text)

    def _read(self, message: Message) -> Request | None:
        value, kind = message.value(), cast(Any, self._asked.kind)
        if value is None:
            return None
        try:
            request: Request = self._codec.decode(self._topic, kind, value)
        except (MessageError, RegistryAway) as exc:
            # it names nobody who could be told
            log.warning("%s: a request at offset %s was dropped: %s", self._stage.name, message.offset(), exc)
            return None
        return request

    def _put(self, request: Request) -> None:
        while self._open:
            try:
                self._waiting.put(request, timeout=POLL_S)
                return
            except queue.Full:
                continue

    # answering

    def _serve(self) -> None:
        while self._open:
            batch = [request for request in self._next() if not _late(request)]
            if batch:
                for request, reply in zip(batch, self._answers(batch), strict=True):
                    self._send(request.envelope, reply)

    def _next(self) -> Iterator[Request]:
        """Those that wait, at most a batch; waits a little for the first."""
        try:
            yield self._waiting.get(timeout=TICK_S)
            for _ in range(self._stage.answer_batch - 1):
                yield self._waiting.get_nowait()
        except queue.Empty:
            return

    def _answers(self, batch: Sequence[Request]) -> Sequence[Reply]:
        try:
            return self._stage.answer(batch)
        except ImageRootUnavailable as exc:
            return [reply_to(request, Answered.UNAVAILABLE, str(exc)) for request in batch]
        except Exception as exc:
            log.exception("%s: a fault while answering", self._stage.name)
            text = f"a fault of the {self._stage.name}: {type(exc).__name__}; its log says more"
            return [reply_to(request, Answered.FAILED, text) for request in batch]

    def _send(self, envelope: Envelope, reply: Reply) -> None:
        try:
            value = self._codec.encode(self._replies, reply)
            if len(value) > MOST_BYTES:
                value = self._codec.encode(self._replies, _smaller(reply))
            self._producer.produce(self._replies, value, envelope.correlation_id.encode(), envelope.partition)
        except (BufferError, KafkaException, RegistryAway) as exc:
            # the broker or the registry is away, or the partition that the envelope names does not exist
            log.warning("%s: a reply was dropped: %s", self._stage.name, exc)


def reply_to(request: Request, outcome: Answered = Answered.SERVED, error_message: str = "", **found: Any) -> Reply:
    """The reply to a request, addressed."""
    return Reply(request.envelope.correlation_id, request.envelope.bridge, outcome, error_message, **found)


def _late(request: Request) -> bool:
    return datetime.now(UTC) > request.envelope.deadline


def _smaller(reply: Reply) -> Reply:
    """A reply without its points, or the refusal of one that does not fit a message even so."""
    bare = replace(reply, duplicated=tuple(replace(one, points=()) for one in reply.duplicated))
    paths = [one.relative_path for one in bare.duplicated] + [one.relative_path for one in bare.neighbors]
    # 250: the most that Avro makes of the rest of a neighbor or duplicate, its edit in words included
    if sum(len(path.encode()) + 250 for path in paths) + len(bare.error_message.encode()) < MOST_BYTES:
        return bare
    said = "the answer does not fit one message: ask for fewer neighbors"
    return Reply(reply.correlation_id, reply.bridge, Answered.REFUSED, said)


def _consumer_settings(kafka: KafkaConfig, stage: str) -> dict[str, Any]:
    settings = kafka.client(
        group_id=requests_group(kafka, stage),
        group_protocol=kafka.group_protocol,
        # what waits when a process comes is still wanted, where it is not past its deadline
        auto_offset_reset="earliest",
        allow_auto_create_topics=False,
    )
    if kafka.group_protocol == "classic":
        settings["partition.assignment.strategy"] = "cooperative-sticky"
        settings.setdefault("session.timeout.ms", 6000)
        settings.setdefault("heartbeat.interval.ms", 2000)
    return settings
