"""The Kafka of `imagetools kafka start`, which runs in the background, with or without a schema registry."""

from contextlib import ExitStack
from pathlib import Path

from local_kafka.broker import LocalKafka
from local_kafka.programs import Progress
from local_kafka.registry import LocalRegistry


def start(data: Path, port: int, registry_port: int | None, progress: Progress) -> tuple[str, str | None]:
    """Start what does not run yet; BrokerUnavailable or RegistryUnavailable, and then nothing new is left running.

    registry_port  None: no registry is started
    Returns Kafka's host:port and the registry's address.
    """
    with ExitStack() as undo:
        kafka = LocalKafka.attach(data)
        if kafka is None:
            kafka = LocalKafka.start(data, port=port, detached=True, progress=progress)
            undo.callback(kafka.stop)
        url = None if registry_port is None else _start_registry(_folder(data), registry_port, progress).url
        undo.pop_all()
    return kafka.bootstrap, url


def stop(data: Path) -> bool:
    """Stop both; return False if neither runs."""
    stopped = [LocalRegistry.stop_detached(_folder(data)), LocalKafka.stop_detached(data)]
    return any(stopped)


def _start_registry(folder: Path, port: int, progress: Progress) -> LocalRegistry:
    return LocalRegistry.attach(folder) or LocalRegistry.start(folder, port=port, detached=True, progress=progress)


def _folder(data: Path) -> Path:
    """Return the registry's folder: messages name schemas by their numbers there, so it belongs to Kafka's data."""
    return data / "registry"
