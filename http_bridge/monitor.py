"""How the stages and Kafka are, sampled every two seconds on a thread of its own."""

import logging
import threading
from contextlib import closing

from aiohttp import web
from confluent_kafka import KafkaException
from msgspec import Struct

from http_bridge.alerts import ALERTS
from http_bridge.image_states import IMAGE_STATES
from http_bridge.refusals import answered
from imagetools.errors import PrerequisiteMissing, RegistryAway
from schemas.records import StageState, State
from streams.config import KafkaConfig
from streams.kafka.follower import missing, reach
from streams.kafka.lag import Sampler, Standing
from streams.requests.client import RequestClient
from streams.states import StateFollower

log = logging.getLogger(__name__)

SAMPLE_S = 2.0
"""Also how soon the page knows that Kafka is away, or back."""


class ProcessState(Struct):
    """One process of a stage: what it does, since when, and why it waits or died."""

    process: str
    host: str
    state: State
    reason: str
    since: str
    restarts: int


class StageStanding(Struct):
    """One stage: messages that wait, messages taken in a second, processes that share the work, and what each does."""

    stage: str
    topic: str
    lag: int
    rate: float
    processes: int
    states: list[ProcessState]


class DeadLetter(Struct):
    """A message that was set aside: its path, reason, origin and time."""

    relative_path: str
    stage: str
    topic: str
    partition: str
    offset: str
    error_type: str
    error_message: str
    time: str


class DeadLetters(Struct):
    """How many messages have been set aside, as far as the topic goes back, and the newest of them."""

    count: int
    newest: list[DeadLetter]


class Standings(Struct):
    """All stages; none while Kafka is away."""

    stages: list[StageStanding]
    dead_letters: DeadLetters


class StatusAnswer(Struct):
    """The envelope; error_message says why Kafka cannot be reached, where it cannot."""

    global_status: int
    error_message: str
    response: Standings


class Monitor:
    """The newest sample, and what the client of stages knows.

    stages     how each is; empty while Kafka is away
    processes  what each process of the stages does
    """

    def __init__(self, kafka: KafkaConfig, client: RequestClient) -> None:
        self._kafka = kafka
        self._client = client
        self._trouble = "not asked yet"
        self.stages: list[Standing] = []
        self.processes: list[StageState] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="monitor")
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why Kafka cannot be used; empty while all is well."""
        return self._client.trouble or self._trouble

    def close(self) -> None:
        """Let go of the connections."""
        self._closing.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                self._sample(reach(self._kafka))
            except (PrerequisiteMissing, KafkaException, RegistryAway) as exc:
                self._note(exc)
                self._closing.wait(SAMPLE_S)

    def _sample(self, kafka: KafkaConfig) -> None:
        with closing(Sampler(kafka)) as sampler, closing(StateFollower(kafka)) as states:
            while not self._closing.is_set():
                self.stages, self.processes, self._trouble = sampler.sample(), states.now(), ""
                self._closing.wait(SAMPLE_S)

    def _note(self, exc: Exception) -> None:
        said = missing(self._kafka, exc) if isinstance(exc, KafkaException) else exc
        if str(said) != self._trouble:
            log.warning("%s", said)
        self.stages, self.processes, self._trouble = [], [], str(said)


MONITOR = web.AppKey("monitor", Monitor)


async def status(request: web.Request) -> web.Response:
    """GET /v1/status."""
    monitor = request.app[MONITOR]
    known, processes = ([], []) if monitor.trouble else (monitor.stages, monitor.processes)
    stages = [
        StageStanding(
            s.stage, s.topic, s.lag, round(s.rate, 1), s.members, [_of(p) for p in processes if p.stage == s.stage]
        )
        for s in known
    ]
    newest = [DeadLetter(**letter) for letter in request.app[ALERTS].newest]
    dead = DeadLetters(request.app[IMAGE_STATES].dead_letters, newest)
    return answered(StatusAnswer(1, monitor.trouble, Standings(stages, dead)))


def _of(one: StageState) -> ProcessState:
    since = one.since.isoformat(timespec="milliseconds")
    return ProcessState(one.process, one.host, one.state, one.reason, since, one.restarts)


async def alive(_: web.Request) -> web.Response:
    """GET /healthz: this process serves."""
    return answered({"status": "alive"})


async def ready(request: web.Request) -> web.Response:
    """GET /readyz: Kafka and the topics can be reached, too."""
    trouble = request.app[MONITOR].trouble
    return answered({"status": trouble or "ready"}, 503 if trouble else 200)
