"""The choice of a Kafka: in a container, or as a local process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from local_kafka.broker import LocalKafka
from local_kafka.container import ContainerKafka, NoContainer
from local_kafka.node import NODE_SETTINGS, VERSION, BrokerUnavailable
from local_kafka.programs import Progress, quiet


class Broker(Protocol):
    """A running Kafka.

    bootstrap  host:port for clients
    """

    bootstrap: str

    def failure(self) -> str:
        """Return how it ended, in one line; empty while it runs."""


@contextmanager
def provide_broker(data_dir: Path | None = None, *, progress: Progress = quiet) -> Iterator[Broker]:
    """Run a Kafka while the context lasts: in a container if a Docker engine answers, otherwise a LocalKafka.

    data_dir  keeps the data; the Kafka is a LocalKafka then
    BrokerUnavailable if neither starts.
    """
    container: ContainerKafka | None = None
    reason = "was not asked"
    if data_dir is None:
        try:
            container = ContainerKafka(VERSION, NODE_SETTINGS, progress)
        except NoContainer as exc:
            reason = str(exc)
    if container is not None:
        with container:
            yield container
        return
    try:
        local = LocalKafka.start(data_dir, progress=progress)
    except BrokerUnavailable as exc:
        raise BrokerUnavailable(
            f"{exc}\nA Docker engine would do as well, but: {reason}\n"
            "Or name a broker that runs already: KAFKA_BOOTSTRAP_SERVERS, or the command's own flag."
        ) from exc
    with local:
        yield local
