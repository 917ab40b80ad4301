"""Notices within seconds that a cluster stops answering, and that it answers again."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

from confluent_kafka import KafkaException

from streams.config import KafkaConfig
from streams.kafka.probe import ClusterProbe
from streams.topics import STAGE_STATES

INTERVAL_S = 1.0
AWAY_AFTER_S = 3.0
"""A busy machine may need a second or two to answer."""

CALL_TIMEOUT_S = 0.5


class Pulse(AbstractContextManager["Pulse"]):
    """Asks the cluster every second whether it answers, on a thread, while the context is open.

    away  whether the cluster does not answer at the moment
    """

    def __init__(self, kafka: KafkaConfig, say: Callable[[str], None]) -> None:
        """say: called on the thread, with one line when the cluster goes away and one when it is back."""
        self.away = False
        self._kafka = kafka
        self._topic = kafka.topic(STAGE_STATES.name)
        self._say = say
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="pulse")
        self._probe = ClusterProbe(kafka, "pulse")

    def __enter__(self) -> "Pulse":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._probe.close()

    def _ask(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            answered = self._answered()
            if self._stop.is_set():
                break
            if answered and self.away:
                self._say(f"Kafka at {self._kafka.bootstrap} answers again")
            elif not answered and not self.away:
                self._say(f"{self._probe.no_answer()}: waiting for it")
            self.away = not answered

    def _answered(self) -> bool:
        """Whether the cluster answers within AWAY_AFTER_S; short calls, so that the context closes quickly."""
        deadline = time.monotonic() + AWAY_AFTER_S
        while not self._stop.is_set():
            try:
                self._probe.ask(CALL_TIMEOUT_S, self._topic)
            except KafkaException:
                if time.monotonic() > deadline:
                    return False
            else:
                return True
        return True
