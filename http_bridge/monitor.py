"""The state of Kafka and the stages, sampled every two seconds on a thread; /v1/status, /healthz and /readyz."""

import logging
from contextlib import closing

from aiohttp import web
from confluent_kafka import KafkaException
from msgspec import Struct

from http_bridge.alert_feed import ALERT_FEED
from http_bridge.background import Background
from http_bridge.errors import kafka_trouble
from http_bridge.image_states import IMAGE_STATES
from http_bridge.responses import json_response
from http_bridge.topic_view import TOPIC_VIEW
from imagetools.errors import PrerequisiteMissing, RegistryAway
from schemas.records import StageState, State
from streams.config import KafkaConfig
from streams.kafka.admin import reach
from streams.kafka.lag import LagSampler, StageLag
from streams.requests.client import RequestClient
from streams.watching.states import StateFollower

log = logging.getLogger(__name__)

SAMPLE_S = 2.0
"""Also how soon the page shows that Kafka is away, or back."""


class ProcessStatus(Struct):
    """One process of a stage: what it does, since when, and why it waits or died."""

    process: str
    host: str
    state: State
    reason: str
    since: str
    restarts: int


class StageStatus(Struct):
    """One stage: messages that wait, messages processed in a second, its processes, and what each of them does."""

    stage: str
    topic: str
    lag: int
    rate: float
    processes: int
    states: list[ProcessStatus]


class DeadLetterStatus(Struct):
    """A message that was set aside: its path, reason, origin and time."""

    relative_path: str
    stage: str
    topic: str
    partition: str
    offset: str
    error_type: str
    error_message: str
    time: str


class DeadLettersStatus(Struct):
    """How many messages were set aside, as far back as the topic goes, and the newest of them."""

    count: int
    newest: list[DeadLetterStatus]


class Status(Struct):
    """All stages; none while Kafka is away."""

    stages: list[StageStatus]
    dead_letters: DeadLettersStatus


class StatusAnswer(Struct):
    """The envelope; error_message says why Kafka cannot be reached, and is empty when it can."""

    global_status: int
    error_message: str
    response: Status


class Monitor:
    """The newest sample.

    stages     the lag of each; empty while Kafka is away
    processes  what each process of the stages does
    """

    def __init__(self, kafka: KafkaConfig, client: RequestClient) -> None:
        self._kafka = kafka
        self._client = client
        self._trouble = "not connected yet"
        self.stages: list[StageLag] = []
        self.processes: list[StageState] = []
        self._background = Background("watching the stages", self._watch)
        self._background.start()

    @property
    def trouble(self) -> str:
        """Why Kafka cannot be used, or what went wrong on the thread; empty when all is well."""
        return self._client.trouble or self._background.fault or self._trouble

    def close(self) -> None:
        """Stop the thread and close the connections."""
        self._background.close()

    def _watch(self) -> None:
        try:
            self._sample(reach(self._kafka))
        except (PrerequisiteMissing, KafkaException, RegistryAway) as exc:
            self._note(exc)
            self._background.wait(SAMPLE_S)

    def _sample(self, kafka: KafkaConfig) -> None:
        with closing(LagSampler(kafka)) as sampler, closing(StateFollower(kafka)) as states:
            while not self._background.closing:
                self.stages, self.processes, self._trouble = sampler.sample(), states.now(), ""
                self._background.working()
                self._background.wait(SAMPLE_S)

    def _note(self, exc: Exception) -> None:
        trouble = kafka_trouble(self._kafka, exc)
        if trouble != self._trouble:
            log.warning("%s", trouble)
        self.stages, self.processes, self._trouble = [], [], trouble


MONITOR = web.AppKey("monitor", Monitor)


async def status(request: web.Request) -> web.Response:
    """Handle GET /v1/status."""
    monitor = request.app[MONITOR]
    known, processes = ([], []) if monitor.trouble else (monitor.stages, monitor.processes)
    stages = [
        StageStatus(
            one.stage,
            one.topic,
            one.lag,
            round(one.rate, 1),
            one.members,
            [_process_status(process) for process in processes if process.stage == one.stage],
        )
        for one in known
    ]
    newest = [DeadLetterStatus(**letter) for letter in request.app[ALERT_FEED].newest]
    dead = DeadLettersStatus(request.app[IMAGE_STATES].dead_letters, newest)
    return json_response(StatusAnswer(1, monitor.trouble, Status(stages, dead)))


def _process_status(state: StageState) -> ProcessStatus:
    since = state.since.isoformat(timespec="milliseconds")
    return ProcessStatus(state.process, state.host, state.state, state.reason, since, state.restarts)


async def alive(_: web.Request) -> web.Response:
    """Handle GET /healthz: this process serves requests."""
    return json_response({"status": "alive"})


async def ready(request: web.Request) -> web.Response:
    """Handle GET /readyz: Kafka and the topics can be reached, and all threads work."""
    trouble = request.app[MONITOR].trouble or request.app[ALERT_FEED].fault or request.app[TOPIC_VIEW].fault
    return json_response({"status": trouble or "ready"}, 503 if trouble else 200)
