"""Stages whose metrics and probes can be asked for over HTTP."""

import json
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from streams.config import KafkaConfig
from streams.stage import Stage
from streams.watching.health import StageHealth
from streams.watching.metrics import StageMetrics
from streams.watching.server import serving
from tests.support.streaming import running

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Watched:
    """The port of one stage's process."""

    port: int

    def ask(self, path: str) -> tuple[int, str]:
        """Return status and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def probe(self, path: str) -> tuple[int, str]:
        """Return status and words."""
        status, body = self.ask(path)
        return status, json.loads(body)["status"]

    def is_ready(self) -> bool:
        return self.probe("/readyz") == (200, "ready")

    def metrics(self) -> "Samples":
        status, text = self.ask("/metrics")
        assert status == 200, text
        return Samples(text)


class Samples:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._values: dict[tuple[str, Labels], float] = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    @property
    def names(self) -> set[str]:
        """Of all samples; of a family without any, those that it would have."""
        found = {name for name, _ in self._values}
        for family in self.families.values():
            match family.type:
                case "counter":
                    found.add(f"{family.name}_total")
                case "histogram":
                    found |= {f"{family.name}_{end}" for end in ("bucket", "sum", "count")}
                case _:
                    found.add(family.name)
        return found

    def total(self, name: str, **labels: str) -> float:
        """Add up the samples of a name that have at least these labels."""
        wanted = labels.items()
        return sum(value for (found, has), value in self._values.items() if found == name and wanted <= set(has))


def ports_in_a_row(count: int) -> int:
    """Return the first of as many free ports, below those that systems give to connections."""
    for first in random.SystemRandom().sample(range(20_000, 30_000, count), 100):
        try:
            with ExitStack() as stack:
                for port in range(first, first + count):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        return first
    raise AssertionError(f"no {count} free ports in a row")


@contextmanager
def watched(stage: Stage[Any], kafka: KafkaConfig, **options: Any) -> Iterator[Watched]:
    """Run a stage in a thread, and serve its metrics on a free port."""
    metrics = StageMetrics(type(stage), StageHealth(300), prefix=kafka.prefix)
    metrics.show(stage)
    with (
        serving(metrics, "127.0.0.1", 0) as port,
        running(stage, kafka=kafka, observer=metrics, on_state=metrics.health.state, **options),
    ):
        yield Watched(port)
