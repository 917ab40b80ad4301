"""A throw-away Kafka in a container, where a Docker engine answers."""

import logging
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from local_kafka.java import Progress, free_ports, quiet

IMAGE = "apache/kafka"
DEFAULT_ENGINE = "unix:///var/run/docker.sock"
START_S = 60.0
CONTROLLER_PORT = 29093

silent = logging.Logger("silent", logging.CRITICAL)  # librdkafka's remarks while the broker is not up yet


class NoContainer(Exception):
    """No engine answers, or the container did not start; the message says why."""


class ContainerKafka:
    """One Kafka in one container; it is removed with the process that started it, by testcontainers' own reaper.

    bootstrap  host:port for clients
    """

    def __init__(self, version: str, settings: Mapping[str, str], progress: Progress = quiet) -> None:
        """Start it; NoContainer where that cannot be.

        version   of Apache Kafka, the image's tag
        settings  of the broker, by Kafka's own names
        """
        # imported here: they take .3 s, and whoever names a broker needs neither
        from docker.errors import DockerException  # noqa: PLC0415
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415
        from testcontainers.core.docker_client import get_docker_host  # noqa: PLC0415
        from testcontainers.core.exceptions import ContainerStartException  # noqa: PLC0415

        _knock(get_docker_host() or DEFAULT_ENGINE)
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
        """How it ended, in one line; empty while it runs."""
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


def _knock(engine: str) -> None:
    """NoContainer where nobody listens at a local engine's socket; the client library would leak its own."""
    if not engine.startswith("unix://"):
        return
    with socket.socket(socket.AF_UNIX) as knocking:
        try:
            knocking.connect(engine.removeprefix("unix://"))
        except OSError as exc:
            raise NoContainer(f"{engine}: {exc.strerror}") from exc


def environment_name(setting: str) -> str:
    """The variable by which the image takes a setting: log.dirs is KAFKA_LOG_DIRS."""
    return "KAFKA_" + setting.upper().replace(".", "_")


def _listeners(outside: str, port: int) -> dict[str, str]:
    # a client connects anew to what is advertised, so this has to be the address that is seen from outside
    return {
        "listeners": f"PLAINTEXT://:{port},CONTROLLER://localhost:{CONTROLLER_PORT}",
        "advertised.listeners": f"PLAINTEXT://{outside}",
        "controller.quorum.voters": f"1@localhost:{CONTROLLER_PORT}",
    }
