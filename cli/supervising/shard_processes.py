"""The searches of `imagetools up`: started and stopped as the index moves from one number of shards to another."""

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

from confluent_kafka import KafkaException

from cli.supervising.supervisor import Supervisor
from streams.config import KafkaConfig
from streams.kafka.admin import shard_groups
from streams.sharding.shards import Shard

log = logging.getLogger(__name__)

LOOK_EVERY_S = 3.0


class ShardProcesses(AbstractContextManager["ShardProcesses"]):
    """Runs the searches of each number of shards that answer, or follow the log beside those that do.

    The supervisor stops them; the context only watches for other numbers.
    """

    def __init__(
        self, kafka: KafkaConfig, supervisor: Supervisor, count: int, replicas: int, say: Callable[[str], None]
    ) -> None:
        """Start the searches of `count` shards, with `replicas` processes for each."""
        self._kafka = kafka
        self._supervisor = supervisor
        self._replicas = replicas
        self._say = say
        self._running: set[int] = set()
        self._needed: set[int] | None = None
        self._closing = threading.Event()
        # Kafka may be away, and must not be waited for by whoever starts it again
        self._thread = threading.Thread(target=self._watch, name="shards", daemon=True)
        self._start(count)

    def __enter__(self) -> "ShardProcesses":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()

    def step(self) -> None:
        """Start and stop what is needed and what no longer is, by the last look."""
        needed, self._needed = self._needed, None
        if not needed:
            return
        for count in sorted(needed - self._running):
            self._say(f"The index moves to {_named(count)}: starting {'it' if count == 1 else 'them'}")
            self._start(count)
        for count in sorted(self._running - needed):
            shards = {str(Shard(index, count)) for index in range(count)}
            self._supervisor.stop([one for one in self._supervisor.members if one.settings.get("SHARD") in shards])
            self._running.discard(count)
            self._say(f"Stopped {_named(count)}, which {'is' if count == 1 else 'are'} not needed any more")

    def _start(self, count: int) -> None:
        settings = [{"SHARD": str(Shard(index, count))} for index in range(count)] * self._replicas
        self._supervisor.start("search", settings=settings)
        self._running.add(count)

    def _watch(self) -> None:
        while not self._closing.wait(LOOK_EVERY_S):
            try:
                groups = shard_groups(self._kafka)
            except KafkaException as exc:
                # whoever watches Kafka reports it; the next look is soon
                log.debug("no look at the shards: %s", exc.args[0].str())
                continue
            self._needed = {count for count in groups.needed if len(groups.of(count)) == count}


def _named(count: int) -> str:
    return "one search without shards" if count == 1 else f"{count} shards"
