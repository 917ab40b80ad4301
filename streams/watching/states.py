"""The state of each stage process, on the topic stage.states: reported by the process, followed by those who watch.

States are sent outside the stages' transactions; one that is lost is sent again ten seconds later.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType

from confluent_kafka import KafkaError, KafkaException, Message

from imagetools.errors import PrerequisiteMissing, RegistryAway
from schemas.codec import codec
from schemas.records import StageState, State
from streams.config import KafkaConfig
from streams.kafka.clients import states_producer
from streams.kafka.errors import reason_of
from streams.kafka.follower import ConsumedMessage, Follower
from streams.stage import Figure
from streams.topics import READS, STAGE_STATES

log = logging.getLogger(__name__)

BEAT_S = 10.0
STALE_S = 35.0
"""A process without a state for this long is gone: three beats and some slack."""

FLUSH_S = 2.0
READ_S = 5.0
"""The most time for the states that are on the topic already."""

READ_BACK = 1000
"""Messages before the topic's end that include a beat of every process, for up to 300 processes."""

MAX_REASON_CHARS = 2000


class StateReporter(AbstractContextManager["StateReporter"]):
    """Reports the state of this process while the context is open. Thread-safe.

    now  the newest state
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        stage: str,
        *,
        images_dir: str = "",
        figures: Callable[[], Sequence[Figure]] = tuple,
    ) -> None:
        """figures: returns what is sent with each state; called from another thread."""
        self._figures = figures
        host = socket.gethostname()
        process = kafka.member or f"{host}-{os.getpid()}"
        restarts = kafka.restarts
        self.now = StageState(stage, process, host, State.STARTING, images_dir=images_dir, restarts=restarts)
        self._sender = StateSender(kafka)
        self._changed = threading.Event()
        self._open = True
        self._thread = threading.Thread(target=self._beat, name="states")

    def __enter__(self) -> "StateReporter":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Report how the process ended."""
        if exc is None:
            self.report(State.STOPPED)
        else:
            self.report(State.DIED, reason_of(exc))
        self._open = False
        self._changed.set()
        self._thread.join()
        self._sender.send(self.now)
        self._sender.close()

    def report(self, state: State, reason: str = "") -> None:
        """Change the state and send it at once."""
        reason = reason[:MAX_REASON_CHARS]
        if (state, reason) == (self.now.state, self.now.reason):
            return
        since = self.now.since if state is self.now.state else datetime.now(UTC)
        self.now = replace(self.now, state=state, reason=reason, since=since)
        self._changed.set()

    def _beat(self) -> None:
        while self._open:
            self._changed.clear()
            self._sender.send(_with_figures(self.now, self._figures()))
            self._changed.wait(BEAT_S)


def _with_figures(state: StageState, figures: Sequence[Figure]) -> StageState:
    numbers = {figure.name: float(figure.value) for figure in figures if not figure.labels}
    labels = {name: value for figure in figures for name, value in figure.labels if figure.value == 1}
    return replace(state, figures=numbers, labels=labels)


class StateSender:
    """Sends states of this process, or of one that it supervises. Thread-safe.

    Logs each error of the broker or the registry once, and keeps nothing for later.
    """

    def __init__(self, kafka: KafkaConfig) -> None:
        self._topic = kafka.topic(STAGE_STATES.name)
        self._codec = codec(kafka.registry)
        self._last_error = ""
        # only the newest state matters: old ones are dropped, not sent when a broker comes back
        self._producer = states_producer(kafka, BEAT_S)

    def send(self, state: StageState) -> None:
        """Send a state without waiting for its delivery."""
        try:
            value = self._codec.encode(self._topic, state)
            self._producer.produce(self._topic, value, state.process.encode(), on_delivery=self._delivered)
        except (BufferError, KafkaException, RegistryAway) as exc:
            self._note(str(exc))
        self._producer.poll(0)

    def close(self) -> None:
        """Deliver what is waiting, for at most FLUSH_S."""
        self._producer.flush(FLUSH_S)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        self._note(error.str() if error else "")

    def _note(self, text: str) -> None:
        if text and text != self._last_error:
            log.warning("the state of this process cannot be sent: %s", text)
        self._last_error = text


class StageStates:
    """The newest state of each process, from the messages of stage.states.

    A process that died is shown as died until it runs again: its next start alone is no recovery.
    """

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, StageState]] = {}

    def take(self, consumed: ConsumedMessage) -> StageState | None:
        """Store a state from stage.states; return it when it differs from the process's previous one, else None."""
        state: StageState = consumed.record
        _, milliseconds = consumed.message.timestamp()
        before = self._heard.get(state.process)
        if before and before[1].state is State.DIED and state.state is State.STARTING:
            state = replace(before[1], restarts=state.restarts)
        self._heard[state.process] = (milliseconds / 1000, state)
        known = before and (before[1].state, before[1].reason, before[1].restarts)
        return None if known == (state.state, state.reason, state.restarts) else state

    def now(self) -> list[StageState]:
        """Return the fresh state of every process that has not stopped, by stage and name."""
        oldest = time.time() - STALE_S
        fresh = (state for heard, state in self._heard.values() if heard >= oldest and state.state is not State.STOPPED)
        return sorted(fresh, key=lambda state: (state.stage, state.process))


class StateFollower:
    """Follows stage.states and knows the newest state of each process."""

    def __init__(self, kafka: KafkaConfig) -> None:
        """PrerequisiteMissing when the topic does not exist."""
        self._follower = Follower(kafka, [STAGE_STATES], last=READ_BACK, patient=True)
        self._states = StageStates()

    def now(self, wait_s: float = 0.0) -> list[StageState]:
        """Return the newest state of each process that has not stopped.

        wait_s  time to wait for new states; the first call also reads those that are on the topic already
        """
        deadline = time.monotonic() + (READ_S if not self._follower.caught_up else 0.0)
        self._take(wait_s)
        while not self._follower.caught_up and time.monotonic() < deadline:
            self._take(0.1)
        return self._states.now()

    def close(self) -> None:
        """Close the connection."""
        self._follower.close()

    def _take(self, wait_s: float) -> None:
        for consumed in self._follower.read(wait_s):
            self._states.take(consumed)


class StateStream:
    """Every state on stage.states as it comes, for those who can do without: an error is reported and ends nothing."""

    def __init__(
        self, kafka: KafkaConfig, on_error: Callable[[str], None] = log.warning, *, from_beginning: bool = False
    ) -> None:
        """Connect at the first `read`.

        on_error        gets why the states cannot be read, once for each reason in a row
        from_beginning  include the states that are on the topic already
        """
        self._kafka = kafka
        self._on_error = on_error
        self._from_beginning = from_beginning
        self._follower: Follower | None = None
        self._last_error = ""

    def read(self) -> list[StageState]:
        """Return the states that have come since the last call; does not wait."""
        try:
            if self._follower is None:
                topics = [STAGE_STATES]
                self._follower = Follower(self._kafka, topics, from_beginning=self._from_beginning, patient=True)
            return [consumed.record for consumed in self._follower.read(0)]
        except (KafkaException, PrerequisiteMissing) as exc:
            if (text := reason_of(exc)) != self._last_error:
                self._on_error(text)
            self._last_error = text
            return []

    def close(self) -> None:
        """Close the connection."""
        if self._follower is not None:
            self._follower.close()


def read_states(kafka: KafkaConfig) -> list[StageState]:
    """Return the newest state of each process that has not stopped. PrerequisiteMissing when the topic is missing."""
    with closing(StateFollower(kafka)) as follower:
        return follower.now()


def in_words(state: StageState) -> str:
    """Describe what a process does, in one sentence."""
    again = f" (started again {state.restarts} times)" if state.restarts > 1 else ""
    again = " (started again once)" if state.restarts == 1 else again
    reason = f": {state.reason}" if state.reason else ""
    match state.state:
        case State.WAITING:
            return f"{state.process} waits{again}{reason}"
        case State.DIED:
            return f"{state.process} died{again}{reason}"
        case State.STARTING:
            return f"{state.process} is starting{again}{reason}"
        case State.STOPPED:
            return f"{state.process} has stopped"
        case _:
            return f"{state.process} runs{again}"


def absent(states: Iterable[StageState]) -> list[str]:
    """Return the names of the stages without a process."""
    there = {state.stage for state in states}
    return [stage for stage in READS if stage not in there]


def trouble(states: Iterable[StageState]) -> list[StageState]:
    """Return the states of the processes that wait or have died."""
    return [state for state in states if state.state in (State.WAITING, State.DIED)]
