"""GET /metrics, for Prometheus."""

import time
from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from http_bridge.alert_feed import AlertFeed
from http_bridge.monitor import Monitor
from http_bridge.security import Handler
from http_bridge.stage_client import StageClient
from schemas.records import State

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OTHER_LABEL = "other"
"""The endpoint and method of requests for unknown paths, so that clients cannot add labels."""


class Metrics:
    """Counts requests, and collects the state of Kafka and the stages when it is read."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        names = ["endpoint", "method", "code"]
        self._requests = Counter("imagetools_http_requests", "Requests answered.", names, registry=self.registry)
        self._seconds = Histogram(
            "imagetools_http_request_seconds",
            "From a request's head to its answer.",
            ["endpoint"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )

    def watch(self, monitor: Monitor, stages: StageClient, alerts: AlertFeed) -> None:
        """Add the metrics of these to the registry."""
        self.registry.register(_StateCollector(monitor, stages, alerts))

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count and time every answer."""
        resource = request.match_info.route.resource
        endpoint = resource.canonical if resource is not None else OTHER_LABEL
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
            method = request.method if resource is not None else OTHER_LABEL
            self._requests.labels(endpoint, method, str(code)).inc()
            self._seconds.labels(endpoint).observe(time.monotonic() - began)


class _StateCollector(Collector):
    def __init__(self, monitor: Monitor, stages: StageClient, alerts: AlertFeed) -> None:
        self._monitor, self._stages, self._alerts = monitor, stages, alerts

    def collect(self) -> Iterator[Metric]:
        up = 0.0 if self._monitor.trouble else 1.0
        yield GaugeMetricFamily("imagetools_kafka_up", "Whether Kafka and the topics can be reached.", up)
        waiting = self._stages.in_flight
        yield GaugeMetricFamily("imagetools_http_requests_waiting", "Requests that wait for a stage.", waiting)
        alerts = self._alerts.count
        yield GaugeMetricFamily("imagetools_alerts_seen", "Alerts seen since this bridge started.", alerts)
        yield from self._lag()
        yield from self._processes()
        yield self._dead_letters()

    def _lag(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily("imagetools_stage_lag", "Messages that a stage has not taken yet.", labels=["stage"])
        rate = GaugeMetricFamily("imagetools_stage_rate", "Messages that a stage takes in a second.", labels=["stage"])
        members = GaugeMetricFamily("imagetools_stage_processes", "Processes that share a stage.", labels=["stage"])
        for one in self._monitor.stages:
            lag.add_metric([one.stage], one.lag)
            rate.add_metric([one.stage], one.rate)
            members.add_metric([one.stage], one.members)
        yield from (lag, rate, members)

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

    def _dead_letters(self) -> Metric:
        dead = CounterMetricFamily(
            "imagetools_dead_letters", "Messages set aside, seen since this bridge started.", labels=["stage", "type"]
        )
        for labels, count in list(self._alerts.dead.items()):
            dead.add_metric(labels, count)
        return dead


METRICS = web.AppKey("metrics", Metrics)


async def metrics(request: web.Request) -> web.Response:
    """Handle GET /metrics."""
    text = generate_latest(request.app[METRICS].registry)
    return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
