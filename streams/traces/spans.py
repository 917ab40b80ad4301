"""Traces made with OpenTelemetry, by its conventions for messages and HTTP.

A message that a stage takes has one span, of kind CONSUMER: from when the batch was taken to when its transaction was
committed. Its parent is the span in the message's headers, or it begins a trace. So the time between two spans is what
the message waited in the topic, and the time of a span is the work, which all messages of a batch share. A message of
the bridge or of `imagetools produce` has a span of kind PRODUCER: until the broker had it.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Final

from confluent_kafka import Message
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from imagetools.errors import ImageToolsError
from schemas.records import Reply, ReplyOutcome
from streams.stage import Headers, Outcome
from streams.topics import ANNOUNCED_AT
from streams.traces.base import TRACEPARENT, TRACESTATE, BatchTrace, OnStatus, Sending, Traces

PROPAGATOR: Final = TraceContextTextMapPropagator()
PLACE: Final = (TRACEPARENT, TRACESTATE)

OURS_AT_FAULT: Final = (ReplyOutcome.FAILED, ReplyOutcome.UNAVAILABLE)
"""Replies that are errors of a stage; others are answers to what the client asked."""

MAX_KEY_CHARS: Final = 1000
MAX_REASON_CHARS: Final = 2000

SERVER_ERROR: Final = 500

Attributes = dict[str, AttributeValue]


class SpanTraces(Traces):
    """Makes spans with a tracer."""

    on = True

    def __init__(self, tracer: Tracer, close: Callable[[], None]) -> None:
        """close: sends what is left."""
        self._tracer = tracer
        self._close = close

    def batch(self, batch: Sequence[Message], group: str) -> BatchTrace:
        """Begin a span for each message."""
        return BatchSpans(self._tracer, batch, group)

    def sending(self, topic: str, key: bytes) -> Sending:
        """Begin a span below the current one."""
        attributes = _of_topic("send", topic) | {"messaging.kafka.message.key": _key(key)}
        return SpanSending(self._tracer.start_span(f"send {topic}", kind=SpanKind.PRODUCER, attributes=attributes))

    @contextmanager
    def serving(self, method: str, route: str, path: str, headers: Mapping[str, str]) -> Iterator[OnStatus]:
        """Let a span be the current one while the context is open."""
        with self._tracer.start_as_current_span(
            f"{method} {route}",
            PROPAGATOR.extract(headers),
            SpanKind.SERVER,
            {"http.request.method": method, "http.route": route, "url.path": path, "url.scheme": "http"},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:

            def answered(status: int) -> None:
                span.set_attribute("http.response.status_code", status)
                if status >= SERVER_ERROR:
                    span.set_attribute("error.type", str(status))
                    span.set_status(StatusCode.ERROR)

            yield answered

    def close(self) -> None:
        """Send what is left."""
        self._close()


class SpanSending(Sending):
    """A span until the broker has the message."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.headers = _carrier(span)

    def done(self, error: str = "", place: tuple[int, int] | None = None) -> None:
        """End the span."""
        if error:
            self._span.set_attribute("error.type", "not_delivered")
            self._span.set_status(StatusCode.ERROR, error)
        elif place is not None:
            partition, offset = place
            self._span.set_attribute("messaging.destination.partition.id", str(partition))
            self._span.set_attribute("messaging.kafka.offset", offset)
        self._span.end()


class BatchSpans(BatchTrace):
    """A span for each message of a batch."""

    def __init__(self, tracer: Tracer, batch: Sequence[Message], group: str) -> None:
        self._tracer = tracer
        self._batch = batch
        self._began = time.time_ns()
        self._shared: Attributes = {"messaging.batch.message_count": len(batch)}
        if group:
            self._shared["messaging.consumer.group.name"] = group
        self._step, self._step_began = "read", self._began
        self._seconds: Attributes = {}
        self._spans = [self._begin(message) for message in batch]
        self._carriers: list[Headers | None] = [None] * len(batch)
        # spans of images that a message has concluded for earlier ones, by its number and their parent
        self._joined: dict[tuple[int, int], tuple[Span, Headers]] = {}
        self._open = True

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            self._end(None if kind is None else kind.__name__, str(exc or ""), "none")

    def step(self, name: str) -> None:
        """Measure the step before it."""
        now = time.time_ns()
        self._seconds[f"imagetools.{self._step}_s"] = (now - self._step_began) / 1e9
        self._step, self._step_began = name, now

    def onward(self, number: int, given: Headers, *, always: bool = True) -> Headers:
        """Name the message's span as the parent, in the trace that `given` names.

        If it names another trace than the message's, the message has concluded what an earlier one brought. That has a
        span of its own then, in its trace, which links to this message's.
        """
        if always:
            return (*_without_place(given), *self._carrier(number))
        parent = _context_of(given)
        if parent is None:
            return given
        trace = get_current_span(parent).get_span_context()
        if trace.trace_id == self._spans[number].get_span_context().trace_id:
            return (*_without_place(given), *self._carrier(number))
        key = number, trace.span_id
        if key not in self._joined:
            self._joined[key] = self._join(number, parent)
        return (*_without_place(given), *self._joined[key][1])

    def log_fields(self, number: int) -> dict[str, str]:
        """Return the trace of a message."""
        return {"trace_id": format_trace_id(self._spans[number].get_span_context().trace_id)}

    def ended(self, outcomes: Sequence[Outcome], *, committed: bool) -> None:
        """End the spans, with their errors."""
        for span, outcome in zip(self._spans, outcomes, strict=True):
            if not span.is_recording():
                continue
            if isinstance(outcome, ImageToolsError):
                span.record_exception(outcome)
                _fail(span, type(outcome).__name__, str(outcome))
            else:
                span.set_attribute("imagetools.outputs", len(outcome))
        if committed:
            self._end(None, "", "committed")
        else:
            self._end("transaction_aborted", "the transaction was aborted: the work is done again", "aborted")

    def answered(self, replies: Sequence[Reply]) -> None:
        """End the spans; a fault of the stage is an error."""
        for span, reply in zip(self._spans, replies, strict=True):
            if span.is_recording():
                span.set_attribute("imagetools.outcome", reply.outcome.value)
                if reply.outcome in OURS_AT_FAULT:
                    _fail(span, reply.outcome.value, reply.error_message)
        self._end(None, "", "")

    def postponed(self, reason: str) -> None:
        """End the spans with the reason."""
        self._end("postponed", reason, "none")

    def _begin(self, message: Message) -> Span:
        headers, topic = message.headers() or (), message.topic() or ""
        span = self._tracer.start_span(
            f"process {topic}",
            _context_of(headers) or Context(),  # type: ignore[arg-type]
            SpanKind.CONSUMER,
            _of_topic("process", topic),
            start_time=self._began,
        )
        if span.is_recording():
            span.set_attributes(self._shared | _of_message(message, self._began))
        return span

    def _join(self, number: int, parent: Context) -> tuple[Span, Headers]:
        topic = self._batch[number].topic() or ""
        span = self._tracer.start_span(
            f"process {topic}",
            parent,
            SpanKind.CONSUMER,
            _of_topic("process", topic) | self._shared,
            [Link(self._spans[number].get_span_context())],
            start_time=self._began,
        )
        return span, _carrier(span)

    def _carrier(self, number: int) -> Headers:
        found = self._carriers[number]
        if found is None:
            found = self._carriers[number] = _carrier(self._spans[number])
        return found

    def _end(self, error: str | None, reason: str, transaction: str) -> None:
        """End what is open.

        transaction  committed, aborted, none; empty: there is none, as for requests
        """
        self._open = False
        self.step("")
        more = self._seconds | ({"imagetools.transaction": transaction} if transaction else {})
        now = time.time_ns()
        for span in (*self._spans, *(span for span, _ in self._joined.values())):
            if span.is_recording():
                span.set_attributes(more)
                if error is not None:
                    _fail(span, error, reason)
                span.end(now)


def _of_topic(operation: str, topic: str) -> Attributes:
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
    }


def _of_message(message: Message, now_ns: int) -> Attributes:
    found: Attributes = {
        "messaging.destination.partition.id": str(message.partition()),
        "messaging.kafka.offset": message.offset() or 0,
        "imagetools.since_announcement_s": max(0.0, now_ns / 1e9 - _announced_ms(message) / 1000),
    }
    if key := message.key():
        found["messaging.kafka.message.key"] = _key(bytes(key))
    if message.value() is None:
        found["messaging.kafka.message.tombstone"] = True
    return found


def _announced_ms(message: Message) -> int:
    """Return when the image of a message was announced; of a message without one, its own time."""
    for name, value in reversed(message.headers() or ()):
        if name == ANNOUNCED_AT and isinstance(value, bytes) and value.isdigit():
            return int(value)
    return message.timestamp()[1]


def _key(key: bytes) -> str:
    return key.decode("utf-8", "replace")[:MAX_KEY_CHARS]


def _fail(span: Span, error: str, reason: str) -> None:
    span.set_attribute("error.type", error)
    span.set_status(StatusCode.ERROR, reason[:MAX_REASON_CHARS])


def _context_of(headers: Headers) -> Context | None:
    """Return the trace that headers name, of two the last; None where they name none."""
    place = {name: value.decode("ascii", "replace") for name, value in headers if name in PLACE and value}
    if TRACEPARENT not in place:
        return None
    found = PROPAGATOR.extract(place)
    return found if get_current_span(found).get_span_context().is_valid else None


def _without_place(headers: Headers) -> Headers:
    return tuple(header for header in headers if header[0] not in PLACE)


def _carrier(span: Span) -> Headers:
    """Return the headers that name a span as the parent of what follows."""
    place: dict[str, str] = {}
    PROPAGATOR.inject(place, set_span_in_context(span, Context()))
    return tuple((name, text.encode()) for name, text in place.items())
