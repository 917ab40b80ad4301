"""How the stages and Kafka are, sampled every two seconds on a thread of its own."""

import logging
import threading

from aiohttp import web
from confluent_kafka import KafkaException

from http_bridge.refusals import answered
from imagetools.errors import PrerequisiteMissing
from streams.asking import Asker
from streams.config import KafkaConfig
from streams.follow import missing, reach
from streams.standings import Sampler, Standing

log = logging.getLogger(__name__)

SAMPLE_S = 2.0
"""Also how soon the page knows that Kafka is away, or back."""


class Monitor:
    """The newest sample, and what the asker of stages knows.

    stages  how each is; empty while Kafka is away
    """

    def __init__(self, kafka: KafkaConfig, asker: Asker) -> None:
        self._kafka = kafka
        self._asker = asker
        self._trouble = "not asked yet"
        self.stages: list[Standing] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="monitor")
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why Kafka cannot be used; empty while all is well."""
        return self._asker.trouble or self._trouble

    def close(self) -> None:
        """Let go of the connections."""
        self._closing.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                sampler = Sampler(reach(self._kafka))
            except (PrerequisiteMissing, KafkaException) as exc:
                self._note(exc)
                self._closing.wait(SAMPLE_S)
                continue
            try:
                while not self._closing.is_set():
                    self.stages, self._trouble = sampler.sample(), ""
                    self._closing.wait(SAMPLE_S)
            except (PrerequisiteMissing, KafkaException) as exc:
                self._note(exc)
                self._closing.wait(SAMPLE_S)
            finally:
                sampler.close()

    def _note(self, exc: Exception) -> None:
        said = missing(self._kafka, exc) if isinstance(exc, KafkaException) else exc
        if str(said) != self._trouble:
            log.warning("%s", said)
        self.stages, self._trouble = [], str(said)


MONITOR = web.AppKey("monitor", Monitor)


async def status(request: web.Request) -> web.Response:
    """GET /v1/status."""
    monitor = request.app[MONITOR]
    known = [] if monitor.trouble else monitor.stages
    stages = [
        {"stage": s.stage, "topic": s.topic, "lag": s.lag, "rate": round(s.rate, 1), "processes": s.members}
        for s in known
    ]
    return answered({"global_status": 1, "error_message": monitor.trouble, "response": {"stages": stages}})


async def alive(_: web.Request) -> web.Response:
    """GET /healthz: this process serves."""
    return answered({"status": "alive"})


async def ready(request: web.Request) -> web.Response:
    """GET /readyz: Kafka and the topics can be reached, too."""
    trouble = request.app[MONITOR].trouble
    return answered({"status": trouble or "ready"}, 503 if trouble else 200)
