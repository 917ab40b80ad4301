"""Noticing within seconds that a cluster no longer answers, and that it does again."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

from confluent_kafka import Consumer, KafkaException

from streams.config import KafkaConfig
from streams.topics import STAGE_STATES

EVERY_S = 1.0
PATIENCE_S = 3.0
"""A broker that does not answer for this long is away: a busy machine may need a second or two."""


class Pulse(AbstractContextManager["Pulse"]):
    """Asks the cluster for a sign of life, from entering to leaving, in a thread of its own.

    away  whether it does not answer at the moment
    """

    def __init__(self, kafka: KafkaConfig, say: Callable[[str], None]) -> None:
        """`say` gets one line when the cluster goes away and one when it is back; it is called in the thread."""
        self.away = False
        self._bootstrap = kafka.bootstrap
        self._topic = kafka.topic(STAGE_STATES.name)
        self._say = say
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="pulse")
        # the client wants a name; nothing is ever read or committed under it
        self._client = Consumer({**kafka.client(group_id=kafka.topic("pulse")), "log_level": 2})

    def __enter__(self) -> "Pulse":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _ask(self) -> None:
        while not self._stop.wait(EVERY_S):
            answered = self._answered()
            if self._stop.is_set():
                break
            if answered and self.away:
                self._say(f"Kafka at {self._bootstrap} answers again")
            elif not answered and not self.away:
                self._say(f"no Kafka answers at {self._bootstrap}: waiting for it")
            self.away = not answered

    def _answered(self) -> bool:
        """Whether it answers within PATIENCE_S; the wait is cut into pieces, so that leaving is quick."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._stop.is_set():
            try:
                self._client.list_topics(self._topic, timeout=0.5)
            except KafkaException:
                if time.monotonic() > deadline:
                    return False
            else:
                return True
        return True
