"""Opens the traces of a process, and closes them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from streams.traces.base import NO_TRACES, Traces
from streams.traces.config import TracesConfig

log = logging.getLogger(__name__)


@contextmanager
def traced(config: TracesConfig, process: str, instance: str | None = None) -> Iterator[Traces]:
    """Make traces while the context is open, where the settings ask for them.

    process   encoder, bridge, …: the service is called imagetools-encoder, unless OTEL_SERVICE_NAME says otherwise
    instance  a name that no other process of the service has
    """
    if not config.on:
        if config.undecided:
            log.info(
                "%s: OTEL_EXPORTER_OTLP_ENDPOINT is set, and no traces are sent: OTEL_TRACES_EXPORTER=otlp sends them, "
                "and none ends this message", process,
            )  # fmt: skip
        yield NO_TRACES
        return
    # a process without traces loads nothing of OpenTelemetry, which may not be installed
    from streams.traces.export import open_traces  # noqa: PLC0415

    traces = open_traces(f"imagetools-{process}", instance)
    try:
        yield traces
    finally:
        traces.close()
