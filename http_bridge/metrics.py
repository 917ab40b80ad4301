"""GET /metrics, for Prometheus."""

import time
from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from http_bridge.alerts import Alerts
from http_bridge.monitor import Monitor
from http_bridge.security import Handler
from http_bridge.stages import Stages
from schemas.records import State

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ELSEWHERE = "other"
"""The endpoint of a request for a path that does not exist: anything else would let a client make labels."""


class Metrics:
    """What is counted, and what is read when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        names = ["endpoint", "method", "code"]
        self._requests = Counter("imagetools_http_requests", "Requests answered.", names, registry=self.registry)
        self._seconds = Histogram(
            "imagetools_http_request_seconds",
            "From a request's head to its answer.",
            ["endpoint"],
            buckets=SECONDS,
            registry=self.registry,
        )

    def watch(self, monitor: Monitor, stages: Stages, alerts: Alerts) -> None:
        """Tell how these are, too."""
        self.registry.register(_Standing(monitor, stages, alerts))

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count and time every answer."""
        resource = request.match_info.route.resource
        endpoint = resource.canonical if resource is not None else ELSEWHERE
        began = time.monotonic()
        code = 500
        try:
            response = await handler(request)
            code = response.status
            return response
        except web.HTTPException as exc:
            code = exc.status
            raise
        finally:
            method = request.method if resource is not None else ELSEWHERE
            self._requests.labels(endpoint, method, str(code)).inc()
            self._seconds.labels(endpoint).observe(time.monotonic() - began)


class _Standing(Collector):
    def __init__(self, monitor: Monitor, stages: Stages, alerts: Alerts) -> None:
        self._monitor, self._stages, self._alerts = monitor, stages, alerts

    def collect(self) -> Iterator[Metric]:
        up = 0.0 if self._monitor.trouble else 1.0
        yield GaugeMetricFamily("imagetools_kafka_up", "Whether Kafka and the topics can be reached.", up)
        waiting = self._stages.in_flight
        yield GaugeMetricFamily("imagetools_http_requests_waiting", "Requests that wait for a stage.", waiting)
        seen = GaugeMetricFamily("imagetools_alerts_seen", "Alerts seen since this bridge started.", self._alerts.count)
        yield seen
        lag = GaugeMetricFamily("imagetools_stage_lag", "Messages that a stage has not taken yet.", labels=["stage"])
        rate = GaugeMetricFamily("imagetools_stage_rate", "Messages that a stage takes in a second.", labels=["stage"])
        members = GaugeMetricFamily("imagetools_stage_processes", "Processes that share a stage.", labels=["stage"])
        for standing in self._monitor.stages:
            lag.add_metric([standing.stage], standing.lag)
            rate.add_metric([standing.stage], standing.rate)
            members.add_metric([standing.stage], standing.members)
        yield from (lag, rate, members)
        yield from self._processes()
        dead = CounterMetricFamily(
            "imagetools_dead_letters", "Messages set aside, seen since this bridge started.", labels=["stage", "type"]
        )
        for labels, count in list(self._alerts.dead.items()):
            dead.add_metric(labels, count)
        yield dead

    def _processes(self) -> Iterator[Metric]:
        names = ["stage", "process"]
        waiting = GaugeMetricFamily(
            "imagetools_stage_waiting", "Whether a process waits for something that is away.", labels=names
        )
        died = GaugeMetricFamily("imagetools_stage_died", "Whether a process has died and not run since.", labels=names)
        restarts = GaugeMetricFamily(
            "imagetools_stage_restarts", "How often a process has been started again.", labels=names
        )
        for one in self._monitor.processes:
            labels = [one.stage, one.process]
            waiting.add_metric(labels, one.state is State.WAITING)
            died.add_metric(labels, one.state is State.DIED)
            restarts.add_metric(labels, one.restarts)
        yield from (waiting, died, restarts)


METRICS = web.AppKey("metrics", Metrics)


async def metrics(request: web.Request) -> web.Response:
    """GET /metrics."""
    text = generate_latest(request.app[METRICS].registry)
    return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
