"""A temporary Kafka in a container of a local Docker engine."""

import logging
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from local_kafka.ports import free_ports
from local_kafka.programs import Progress, quiet

IMAGE = "apache/kafka"
DEFAULT_ENGINE = "unix:///var/run/docker.sock"
START_S = 60.0
CONTROLLER_PORT = 29093

# librdkafka logs failed connections until the broker is up
silent = logging.Logger("silent", logging.CRITICAL)


class NoContainer(Exception):
    """No engine answers, or the container does not start; the message says why."""


class ContainerKafka:
    """A Kafka in a container, which testcontainers' reaper removes when the starting process ends.

    bootstrap  host:port for clients
    """

    def __init__(self, version: str, settings: Mapping[str, str], progress: Progress = quiet) -> None:
        """Start the container; NoContainer if that fails.

        version   Apache Kafka's version, the image's tag
        settings  of the broker, by Kafka's names
        """
        # imported here: they take .3 s, and a named broker needs neither
        from docker.errors import DockerException  # noqa: PLC0415
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415
        from testcontainers.core.docker_client import get_docker_host  # noqa: PLC0415
        from testcontainers.core.exceptions import ContainerStartException  # noqa: PLC0415

        _check_socket(get_docker_host() or DEFAULT_ENGINE)
        with ExitStack() as undo:
            try:
                (port,) = free_ports(1)
                self._container = DockerContainer(f"{IMAGE}:{version}").with_bind_ports(port, port)
                engine = self._container.get_docker_client()
                engine.client.ping()
                progress(f"starting Apache Kafka {version} in a container")
                self.bootstrap = f"{engine.host()}:{port}"
                for name, value in {**settings, **_listeners(self.bootstrap, port)}.items():
                    self._container.with_env(environment_name(name), value)
                undo.callback(self._container.stop)
                self._container.start()
                AdminClient({"bootstrap.servers": self.bootstrap}, logger=silent).list_topics(timeout=START_S)
            except (DockerException, ContainerStartException, KafkaException, OSError) as exc:
                raise NoContainer(str(exc)) from exc
            undo.pop_all()

    def failure(self) -> str:
        """Return how it ended, in one line; empty while it runs."""
        from docker.errors import DockerException  # noqa: PLC0415

        try:
            found = self._container.get_wrapped_container()
            found.reload()  # type: ignore[no-untyped-call]
            if found.status in ("created", "running", "restarting"):
                return ""
            log = found.logs(tail=1).decode("utf-8", "replace").strip()  # type: ignore[no-untyped-call]
            return f"Kafka's container is {found.status} ({log})"
        except (DockerException, OSError) as exc:
            return f"Kafka's container is gone ({exc})"

    def stop(self) -> None:
        """Remove the container."""
        self._container.stop()

    def __enter__(self) -> "ContainerKafka":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _check_socket(engine: str) -> None:
    """Raise NoContainer if nothing listens on the engine's local socket.

    docker's client would find out, too, but leaks a socket then.
    """
    if not engine.startswith("unix://"):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(engine.removeprefix("unix://"))
        except OSError as exc:
            raise NoContainer(f"{engine}: {exc.strerror}") from exc


def environment_name(setting: str) -> str:
    """Return the variable that the image reads a setting from: log.dirs is KAFKA_LOG_DIRS."""
    return "KAFKA_" + setting.upper().replace(".", "_")


def _listeners(outside: str, port: int) -> dict[str, str]:
    # clients reconnect to the advertised address, so it must be the one that is reachable from outside
    return {
        "listeners": f"PLAINTEXT://:{port},CONTROLLER://localhost:{CONTROLLER_PORT}",
        "advertised.listeners": f"PLAINTEXT://{outside}",
        "controller.quorum.voters": f"1@localhost:{CONTROLLER_PORT}",
    }
