"""What traces cost a stage: CPU time of a message, without traces, and where all or one in a hundred are sampled.

    python -m bench.traces

The work is what a runner does with traces for a batch of 50 messages. CPU time is that of the whole process, so it has
the encoding and sending of spans to a collector, which is another process. A real stage spends 2 to 18 CPU ms on an
image (python -m bench.cost).
"""

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection

from confluent_kafka import Message
from rich.console import Console
from rich.table import Table

from streams.stage import Outcome, Output
from streams.topics import ANNOUNCED_AT, VERDICTS
from streams.traces.base import Traces
from streams.traces.config import TracesConfig
from streams.traces.start import traced

BATCH = 50
BATCHES = 400
ONE_IN = 100
"""Messages of which one is sampled, where not all are."""


class Sink(BaseHTTPRequestHandler):
    """Takes spans and keeps none."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer as a collector does."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def sink(told: Connection) -> None:
    server = HTTPServer(("127.0.0.1", 0), Sink)
    told.send(server.server_address[1])
    server.serve_forever()


@contextmanager
def collector() -> Iterator[str]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=sink, args=(there,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def messages(*, one_in: int | None) -> list[Message]:
    """Make two batches in a row.

    one_in  of how many messages one is sampled, as its header says; None: no message has a place in a trace
    """
    made = []
    for number in range(2 * BATCH):
        headers: list[tuple[str, str | bytes | None]] = [(ANNOUNCED_AT, b"1700000000000")]
        if one_in is not None:
            flag = 1 if number % one_in == 0 else 0
            headers.append(("traceparent", f"00-{number + 1:032x}-{number + 1:016x}-{flag:02x}".encode()))
        path = f"shop/2024/photo ({number}).jpg".encode()
        timestamp = (1, 1_700_000_000_000)
        made.append(Message("embeddings", 0, number, path, b"x" * 3000, headers, None, timestamp))
    return made


def work(traces: Traces, batch: Sequence[Message], outcomes: Sequence[Outcome]) -> None:
    """Do what a runner does to the traces of one batch."""
    with traces.batch(batch, "search") as trace:
        trace.step("run")
        trace.step("commit")
        for number, message in enumerate(batch):
            trace.onward(number, tuple(message.headers() or ()))  # type: ignore[arg-type]
        trace.ended(outcomes, committed=True)


def cost(config: TracesConfig, *, one_in: int | None) -> float:
    """Return the CPU time of a message in µs, sending included."""
    made = messages(one_in=one_in)
    outcomes: list[Outcome] = [(Output(VERDICTS, "", None),)] * BATCH
    with traced(config, "bench") as traces:
        work(traces, made[:BATCH], outcomes)
        began = time.process_time()
        for number in range(BATCHES):
            work(traces, made[:BATCH] if number % 2 else made[BATCH:], outcomes)
    return 1e6 * (time.process_time() - began) / (BATCHES * BATCH)


def main() -> None:
    os.environ["OTEL_BSP_MAX_QUEUE_SIZE"] = str(2 * BATCH * BATCHES)
    os.environ["OTEL_TRACES_SAMPLER"] = "parentbased_traceidratio"
    off, on = TracesConfig(), TracesConfig(exporter="otlp")
    table = Table("µs a message", "without traces", "all sampled", f"1 in {ONE_IN} sampled")
    first, later = [cost(off, one_in=None)], [cost(off, one_in=1)]
    with collector() as url:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
        for one_in in (1, ONE_IN):
            os.environ["OTEL_TRACES_SAMPLER_ARG"] = str(1 / one_in)
            first.append(cost(on, one_in=None))
            later.append(cost(on, one_in=one_in))
    table.add_row("the stage that begins the trace", *(f"{one:.1f}" for one in first))
    table.add_row("a stage that goes on with it", *(f"{one:.1f}" for one in later))
    Console().print(table)


if __name__ == "__main__":
    main()
