"""The metrics of one stage's process, for Prometheus.

The bridge has others, which it sees from outside (http_bridge/metrics.py). No two have one name.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from imagetools.errors import ImageToolsError, MessageError
from schemas.records import Duplicates, Verdict, VerdictOutcome
from streams.stage import Figure, Headers, Outcome, Received, Stage
from streams.watching.announced import announced_at
from streams.watching.health import StageHealth
from streams.watching.observer import BatchStep, Observer, Owned

PREFIX = "imagetools_"

STEP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
RESTORE_BUCKETS_S = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0)
VERDICT_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

LOOK_EVERY_S = 2.0
"""How often lag and the stage's own figures are read."""


class StageMetrics(Observer):
    """Counts what a runner does, and keeps the health of its process.

    stage     its name
    registry  everything that is counted, and what the process takes of the machine
    lag       by topic and partition
    figures   of the stage
    """

    def __init__(self, stage: type[Stage[Any]], health: StageHealth, *, prefix: str = "") -> None:
        """prefix: in front of the topics on the cluster, which no label has."""
        # a series of its own for the time at which each other one began, which nothing here asks for
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.stage = stage.name
        self.registry = CollectorRegistry()
        self.health = health
        self.lag: dict[tuple[str, int], int] = {}
        self.figures: tuple[Figure, ...] = ()
        self._gives_verdicts = stage.gives_verdicts
        self._prefix = prefix
        self._restoring_since: float | None = None
        self._watched: Stage[Any] | None = None
        self._look_due = 0.0
        ProcessCollector(registry=self.registry)
        build = Info("imagetools_build", "The version of this process.", ["stage"], registry=self.registry)
        build.labels(self.stage).info({"version": version("imagetools-kafka")})
        self._taken = self._counter("records_in", "Messages taken, dead letters included.")
        self._sent = self._counter("records_out", "Messages sent, other than dead letters.", "topic")
        self._dead = self._counter("dead_letters_written", "Messages set aside, by the kind of error.", "type")
        self._verdicts = self._counter("verdicts", "Verdicts given.", "outcome")
        self._alerts = self._counter("alerts", "Alerts sent.")
        self._pairs = self._counter("alert_pairs", "Duplicates named in alerts.")
        self._transactions = self._counter("transactions", "Transactions, by how they ended.", "result")
        self._rebalances = self._counter("rebalances", "Times that partitions came or went.")
        self._batches = self._histogram("batch_records", "Messages of a committed batch.", BATCH_BUCKETS)
        self._steps = self._histogram("step_seconds", "A batch's time in each step.", STEP_BUCKETS_S, "step")
        self._restores = self._histogram("restore_seconds", "Restores of the stage's state.", RESTORE_BUCKETS_S)
        self._latency = self._histogram(
            "announcement_to_verdict_seconds", "From an image's announcement to its verdict.", VERDICT_BUCKETS_S
        )
        self._begin_at_zero()
        self.registry.register(_ProcessMetrics(self))

    def show(self, stage: Stage[Any]) -> None:
        """Show the stage's own figures from now on."""
        self._watched = stage

    # the runner's work

    def turned(self, partitions: Owned, *, member: bool) -> None:
        """Note the turn, a restore that began or ended, and now and then lag and figures."""
        self.health.turned(partitions.owned, member=member)
        now = time.monotonic()
        if partitions.restoring:
            self._restoring_since = self._restoring_since or now
        elif self._restoring_since is not None:
            self._restores.labels(self.stage).observe(now - self._restoring_since)
            self._restoring_since = None
        if now >= self._look_due:
            self._look_due = now + LOOK_EVERY_S
            self.lag = {(topic.removeprefix(self._prefix), n): lag for (topic, n), lag in partitions.lag().items()}
            self.figures = tuple(self._watched.figures()) if self._watched is not None else ()

    def timed(self, step: BatchStep) -> AbstractContextManager[Any]:
        """Time a step of a batch."""
        return self._steps.labels(self.stage, step).time()

    def committed(self, received: Sequence[Received[Any] | MessageError], outcomes: Sequence[Outcome]) -> None:
        """Count a batch."""
        self.health.committing(True)
        name = self.stage
        self._transactions.labels(name, "committed").inc()
        self._taken.labels(name).inc(len(received))
        self._batches.labels(name).observe(len(received))
        for one, outcome in zip(received, outcomes, strict=True):
            if isinstance(outcome, ImageToolsError):
                self._dead.labels(name, type(outcome).__name__).inc()
                if self._gives_verdicts:
                    self._count_verdict(one, VerdictOutcome.DEAD_LETTER)
                continue
            for output in outcome:
                self._sent.labels(name, output.topic.name).inc()
                match output.record:
                    case Verdict(outcome=found):
                        self._count_verdict(one, found, output.headers)
                    case Duplicates(duplicated=pairs):
                        self._alerts.labels(name).inc()
                        self._pairs.labels(name).inc(len(pairs))

    def aborted(self) -> None:
        """Count an aborted transaction."""
        self.health.committing(False)
        self._transactions.labels(self.stage, "aborted").inc()

    def rebalanced(self) -> None:
        """Count a rebalance. The aborted batch of before it may be another process's now."""
        self.health.committing(True)
        self._rebalances.labels(self.stage).inc()

    def _count_verdict(
        self, received: Received[Any] | MessageError, outcome: VerdictOutcome, more: Headers = ()
    ) -> None:
        self._verdicts.labels(self.stage, outcome).inc()
        announced = announced_at(received, more) if isinstance(received, Received) else None
        if announced is not None:
            # the clocks of two machines may differ
            self._latency.labels(self.stage).observe(max(0.0, time.time() - announced / 1000))

    def _begin_at_zero(self) -> None:
        """Make the series whose labels are known, so that their first increase is seen as one."""
        name = self.stage
        for metric in (self._taken, self._rebalances, self._batches, self._restores):
            metric.labels(name)
        for result in ("committed", "aborted"):
            self._transactions.labels(name, result)
        for step in BatchStep:
            self._steps.labels(name, step)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, text, ["stage", *labels], registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(PREFIX + name, text, ["stage", *labels], buckets=buckets, registry=self.registry)


class _ProcessMetrics(Collector):
    """What is read when it is asked for: health, partitions, lag, and the stage's figures."""

    def __init__(self, metrics: StageMetrics) -> None:
        self._stage = metrics.stage
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        health = self._metrics.health
        yield self._gauge("partitions", "Partitions that this process owns; 0: it stands by.", health.owned)
        yield self._gauge("waiting", "Whether this process waits for something that is away.", health.waiting)
        yield self._gauge("alive", "Whether the loop turns, as /healthz says.", health.alive().good)
        yield self._gauge("ready", "Whether this process is ready, as /readyz says.", health.ready().good)
        lag = GaugeMetricFamily(
            "imagetools_partition_lag",
            "Offsets from the committed one to the partition's end; each transaction there has one, too.",
            labels=["stage", "topic", "partition"],
        )
        for (topic, partition), behind in self._metrics.lag.items():
            lag.add_metric([self._stage, topic, str(partition)], behind)
        yield lag
        yield from self._figures()

    def _figures(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for figure in self._metrics.figures:
            if figure.name not in families:
                kind = CounterMetricFamily if figure.counts else GaugeMetricFamily
                families[figure.name] = kind(PREFIX + figure.name, figure.help)
            families[figure.name].add_sample(
                PREFIX + figure.name + ("_total" if figure.counts else ""),
                {"stage": self._stage, **dict(figure.labels)},
                figure.value,
            )
        yield from families.values()

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        gauge = GaugeMetricFamily(PREFIX + name, text, labels=["stage"])
        gauge.add_metric([self._stage], value)
        return gauge
