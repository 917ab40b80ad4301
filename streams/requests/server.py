"""Answers a stage's requests on threads of their own, outside its transactions and ahead of its backlog."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from imagetools.errors import ImageRootUnavailable, MessageError, RegistryAway
from schemas.codec import codec
from schemas.records import Envelope, Reply, ReplyOutcome, Request
from streams.config import KafkaConfig
from streams.kafka import clients
from streams.kafka.authorization import REFUSALS
from streams.kafka.errors import of_unused_group
from streams.kafka.messages import coordinates
from streams.requests.protocol import MAX_MESSAGE_BYTES, REQUEST_RETENTION_MS, is_late, reply_to, shrink
from streams.stage import Stage
from streams.topics import ANSWERS, REPLIES, requests_group
from streams.traces.base import NO_TRACES, Traces

log = logging.getLogger(__name__)

POLL_S = 0.1
BATCH_WAIT_S = 0.05
MAX_QUEUED = 64
"""Requests that a process takes from Kafka ahead of its threads; the rest wait in Kafka, for any process."""

FLUSH_S = 1.0
OFFSETS_TIMEOUT_S = 10.0

RequestServerFactory = Callable[[Callable[[], None]], AbstractContextManager[object]]
"""Makes the server that runs during a runner's loop; its argument stops the runner."""


class RequestServer(AbstractContextManager["RequestServer"]):
    """Answers a stage's requests while the context is open.

    A Kafka client that fails stops the stage, and its error is raised when the context closes. A fault in the stage's
    `answer` is logged and sent to the client: no request may end a stage that thousands of images wait for.
    """

    def __init__(
        self, stage: Stage[Any], kafka: KafkaConfig, stop: Callable[[], None], *, traces: Traces = NO_TRACES
    ) -> None:
        """stop: called from a thread when the server cannot go on."""
        self._stage = stage
        self._shared = stage.owns_requests() is None
        self._kafka = kafka
        self._stop = stop
        self._requests = ANSWERS[stage.name]
        self._topic = kafka.topic(self._requests.name)
        self._replies = kafka.topic(REPLIES.name)
        self._codec = codec(kafka.registry)
        self._traces = traces
        self._group = requests_group(kafka, stage.name) if stage.owns_requests() is None else ""
        self._queue: queue.Queue[tuple[Message, Request]] = queue.Queue(MAX_QUEUED)
        self._open = True
        self._failure: BaseException | None = None
        self._last_error = ""
        self._threads = [threading.Thread(target=self._guard, args=(self._receive,), name="requests")]
        self._threads += [
            threading.Thread(target=self._guard, args=(self._serve,), name=f"answer-{n}")
            for n in range(stage.answer_threads)
        ]

    def __enter__(self) -> "RequestServer":
        self._consumer = clients.requests_consumer(self._kafka, self._stage.name, shared=self._shared)
        self._producer = clients.prompt_producer(self._kafka, acks="1")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        for thread in self._threads:
            thread.join()
        self._producer.flush(FLUSH_S)
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

    # receiving

    def _receive(self) -> None:
        if self._shared:
            self._consumer.subscribe([self._topic])
        assigned = False
        while self._open:
            if not self._shared and assigned != (owned := bool(self._stage.owns_requests())):
                assigned = owned
                self._assign(assigned)
            message = self._consumer.poll(POLL_S)
            self._producer.poll(0)
            if message is None:
                continue
            if message.error() is not None:
                self._note(message.error())
            elif (request := self._read(message)) is not None:
                self._enqueue(message, request)

    def _assign(self, owned: bool) -> None:
        """Read all partitions without a group, or none: a group could assign them to a process with no index."""
        if not owned:
            self._consumer.unassign()
            return
        numbers = range(self._requests.partitions)
        since = int(time.time() * 1000) - REQUEST_RETENTION_MS
        parts = [TopicPartition(self._topic, number, since) for number in numbers]
        try:
            self._consumer.assign(self._consumer.offsets_for_times(parts, timeout=OFFSETS_TIMEOUT_S))
        except KafkaException as exc:
            # the topic does not exist or the broker is away: read what comes next
            self._note(exc.args[0])
            self._consumer.assign([TopicPartition(self._topic, number) for number in numbers])

    def _note(self, error: KafkaError | None) -> None:
        """Log each Kafka error once; a fatal one is raised, and a refusal."""
        if error is None or (not self._shared and of_unused_group(error)):
            return
        if error.fatal() or error.code() in REFUSALS:
            raise KafkaException(error)
        if (text := error.str()) != self._last_error:
            self._last_error = text
            log.warning("%s: no requests at the moment: %s", self._stage.name, text)

    def _read(self, message: Message) -> Request | None:
        value, kind = message.value(), cast(Any, self._requests.kind)
        if value is None:
            return None
        try:
            request: Request = self._codec.decode(self._topic, kind, value)
        except (MessageError, RegistryAway) as exc:
            # without an envelope there is no client to reply to
            text = "%s: a request at offset %s was dropped: %s"
            log.warning(text, self._stage.name, message.offset(), exc, extra=coordinates(message))
            return None
        return request

    def _enqueue(self, message: Message, request: Request) -> None:
        while self._open:
            try:
                self._queue.put((message, request), timeout=POLL_S)
                return
            except queue.Full:
                continue

    # answering

    def _serve(self) -> None:
        while self._open:
            batch = [(message, request) for message, request in self._next_batch() if not is_late(request)]
            if not batch:
                continue
            requests = [request for _, request in batch]
            with self._traces.batch([message for message, _ in batch], self._group) as trace:
                trace.step("run")
                replies = self._answer(requests)
                for request, reply in zip(requests, replies, strict=True):
                    self._send(request.envelope, reply)
                trace.answered(replies)

    def _next_batch(self) -> Iterator[tuple[Message, Request]]:
        """Take the queued requests, at most a batch; wait BATCH_WAIT_S for the first."""
        try:
            yield self._queue.get(timeout=BATCH_WAIT_S)
            for _ in range(self._stage.answer_batch - 1):
                yield self._queue.get_nowait()
        except queue.Empty:
            return

    def _answer(self, batch: Sequence[Request]) -> Sequence[Reply]:
        try:
            return self._stage.answer(batch)
        except ImageRootUnavailable as exc:
            return [reply_to(request, ReplyOutcome.UNAVAILABLE, str(exc)) for request in batch]
        except Exception as exc:
            log.exception("%s: a fault while answering", self._stage.name)
            text = f"a fault of the {self._stage.name}: {type(exc).__name__}; its log says more"
            return [reply_to(request, ReplyOutcome.FAILED, text) for request in batch]

    def _send(self, envelope: Envelope, reply: Reply) -> None:
        try:
            value = self._codec.encode(self._replies, reply)
            if len(value) > MAX_MESSAGE_BYTES:
                value = self._codec.encode(self._replies, shrink(reply))
            key = envelope.correlation_id.encode()
            self._producer.produce(self._replies, value, key, envelope.partition, on_delivery=self._delivered)
        except (BufferError, KafkaException, RegistryAway) as exc:
            # the broker or the registry is away, or the envelope's partition does not exist
            log.warning("%s: a reply was dropped: %s", self._stage.name, exc)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        """Say why a reply was not taken. KafkaException, on the thread that polls, for a refusal."""
        if error is None:
            return
        if error.code() in REFUSALS:
            raise KafkaException(error)
        log.warning("%s: a reply was not taken: %s", self._stage.name, error.str())
