"""Sends spans to a collector by OTLP over HTTP, on a thread of the library's own, and says once when it cannot.

OpenTelemetry reads its own variables: endpoint, headers, certificates, timeout, sampler, limits and resource.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from streams.traces.spans import SpanTraces

log = logging.getLogger(__name__)

CLOSE_S: Final = 5.0
"""How long a process that stops may take for the spans that are left."""

LIBRARY: Final = "opentelemetry"
EXPORTERS: Final = f"{LIBRARY}.exporter"
"""Names of the library's loggers."""

UNNAMED: Final = "unknown_service"
"""What the library calls a service that no variable names."""


class LibraryLog(logging.Handler):
    """Takes the library's messages, which repeat for each batch of spans.

    trouble  the exporter's newest message; each kind of the others is logged once
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.trouble = ""
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep or log a message."""
        if record.name.startswith(EXPORTERS):
            self.trouble = record.getMessage()
        elif record.msg not in self._said:
            self._said.add(record.msg)
            log.log(record.levelno, "traces: %s", record.getMessage())


class NotingSession(requests.Session):
    """Notes what keeps a request from its aim, which the library does not always say.

    trouble  of the newest request; empty: there was none
    """

    trouble = ""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request. RequestException."""
        try:
            response = super().send(request, **kwargs)
        except requests.RequestException as exc:
            self.trouble = str(exc)
            raise
        self.trouble = "" if response.ok else f"{request.url} answers {response.status_code} {response.reason}"
        return response


class SteadyExporter(SpanExporter):
    """Hands spans to another exporter. Logs when it begins to fail and when it works again, and not each failure."""

    def __init__(self, exporter: SpanExporter, trouble: Callable[[], str]) -> None:
        """trouble: returns why the other exporter's last export failed."""
        self._exporter = exporter
        self._trouble = trouble
        self._lost = 0
        self._closing = False
        self._closed = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; those that cannot be sent are lost."""
        if self._closing and self._lost:
            return SpanExportResult.FAILURE
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                log.info("traces are sent again; %d spans were lost", self._lost)
            self._lost = 0
        else:
            if not self._lost:
                log.warning("traces are not sent, and the work goes on without them: %s", self._trouble())
            self._lost += len(spans)
        return result

    def close(self) -> None:
        """Send no more to a collector that is away, and end the wait for it."""
        self._closing = True
        if self._lost:
            self.shutdown()

    def shutdown(self) -> None:
        """Close the other exporter, once."""
        if not self._closed.is_set():
            self._closed.set()
            self._exporter.shutdown()


def open_traces(service: str, instance: str | None) -> SpanTraces:
    """Make the traces of a process, as OpenTelemetry's variables say.

    service   its name, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES has one
    instance  a name that no other process of the service has
    """
    library = LibraryLog()
    library_logger = logging.getLogger(LIBRARY)
    library_logger.addHandler(library)
    library_logger.propagate = False
    session = NotingSession()
    exporter = SteadyExporter(OTLPSpanExporter(session=session), lambda: session.trouble or library.trouble)
    resource = Resource.create({"service.version": version("imagetools-kafka")})
    if str(resource.attributes["service.name"]).startswith(UNNAMED):
        resource = resource.merge(Resource({"service.name": service}))
    if instance:
        resource = resource.merge(Resource({"service.instance.id": instance}))
    # what is left at the end is sent by `close`, which waits no longer than CLOSE_S
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return SpanTraces(provider.get_tracer("imagetools"), partial(_close, provider, exporter, library))


def _close(provider: TracerProvider, exporter: SteadyExporter, library: LibraryLog) -> None:
    exporter.close()
    # the library waits for up to half a minute
    closing = threading.Thread(target=provider.shutdown, name="close-traces", daemon=True)
    closing.start()
    closing.join(CLOSE_S)
    if not closing.is_alive():
        logging.getLogger(LIBRARY).removeHandler(library)
