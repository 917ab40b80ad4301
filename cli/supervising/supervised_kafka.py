"""The local Kafka of `imagetools up`: restarted when it dies, with the same data and port."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from cli.supervising.supervisor import BACKOFF_S, GIVE_UP, STEADY_S
from local_kafka.broker import LocalKafka
from local_kafka.node import BrokerUnavailable
from streams.exit_codes import Failed

Say = Callable[[str], None]


class KafkaKeepsDying(Failed):
    """Kafka died again after it was restarted."""


class SupervisedKafka(AbstractContextManager["SupervisedKafka"]):
    """A context that keeps a local Kafka running.

    bootstrap  host:port for clients
    starting   whether `restart_if_dead` is restarting it at the moment
    """

    def __init__(self, data: Path, port: int, say: Say, progress: Say) -> None:
        """Start it; BrokerUnavailable. `say` gets each piece of news."""
        self._data = data
        self._port = port
        self._say = say
        self._broker = LocalKafka.start(data, port=port, progress=progress)
        self._started = time.monotonic()
        self._deaths = 0
        self.starting = False
        self.bootstrap = self._broker.bootstrap

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._broker.stop()

    def restart_if_dead(self) -> None:
        """Restart it if it has died, which takes some seconds; KafkaKeepsDying if restarts do not help."""
        while failure := self._broker.failure():
            if time.monotonic() - self._started > STEADY_S:
                self._deaths = 0
            self._deaths += 1
            if self._deaths >= GIVE_UP:
                raise KafkaKeepsDying(failure)
            self._say(f"{failure}; starting it again …")
            self.starting = True
            time.sleep(BACKOFF_S[0] * self._deaths)
            self._start(failure)
            self.starting = False

    def _start(self, failure: str) -> None:
        self._broker.stop()
        self._started = time.monotonic()
        try:
            self._broker = LocalKafka.start(self._data, port=self._port)
        except BrokerUnavailable as exc:
            raise KafkaKeepsDying(f"{failure}; and it cannot be started again: {exc}") from exc
        self._say("Kafka runs again")
