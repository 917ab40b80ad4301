"""A collector of traces: an HTTP server that takes OTLP as collectors do, and keeps the spans."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.bridging import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{CALLER}-01"
"""A caller's trace, its span, and both as a header."""


def place(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Return the span that headers name, of which there must be one, without the flags."""
    (value,) = (value for name, value in headers if name == "traceparent")
    assert value is not None
    assert value[-3:-1] == b"-0"
    return value[:-3]


@dataclass(frozen=True)
class SeenSpan:
    """One span; ids are in hexadecimal, as in headers, times in nanoseconds."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    attributes: dict[str, Any]
    failed: bool
    status: str
    links: tuple[str, ...] = ()
    events: tuple[tuple[str, dict[str, Any]], ...] = ()

    @property
    def place(self) -> bytes:
        """Its place in the trace, as `place` has it."""
        return f"00-{self.trace}-{self.id}".encode()


@dataclass
class Collector:
    """What has come, and where it comes to."""

    url: str = ""
    spans: list[SeenSpan] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, Any]:
        """The variables that send traces here, at once."""
        return {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }

    def until(self, condition: Callable[[list[SeenSpan]], Any]) -> list[SeenSpan]:
        """Wait until the condition holds for the spans that have come; return them in the order of their beginning."""
        eventually(lambda: condition(list(self.spans)))
        return sorted(self.spans, key=lambda span: span.start)

    def named(self, *names: str, trace: str = TRACE) -> list[SeenSpan]:
        """Wait for one span of each name in a trace; return them in that order."""

        def found() -> list[SeenSpan]:
            there = [span for span in self.spans if span.trace == trace]
            return [span for name in names for span in there if span.name == name]

        eventually(lambda: {span.name for span in found()} >= set(names))
        return found()


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """Run a collector."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            assert self.headers["Content-Type"] == "application/x-protobuf"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.spans += spans_of(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def spans_of(request: ExportTraceServiceRequest) -> list[SeenSpan]:
    found = []
    for resource in request.resource_spans:
        service = values(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            found += [_seen(service, span) for span in scope.spans]
    return found


def _seen(service: str, span: Span) -> SeenSpan:
    return SeenSpan(
        service,
        span.name,
        Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        values(span.attributes),
        span.status.code == Status.STATUS_CODE_ERROR,
        span.status.message,
        tuple(link.span_id.hex() for link in span.links),
        tuple((event.name, values(event.attributes)) for event in span.events),
    )


def values(attributes: Sequence[Any]) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind is not None else None
