"""Three real Kafka brokers with TLS, passwords and ACLs, each of which can be killed and started again."""

import os
import signal
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from imagetools.scratch import Scratch
from local_kafka.node import FRUGAL, KAFKA, LOGGING, NODE_SETTINGS, START_S
from local_kafka.ports import free_ports
from local_kafka.process import JavaProcess
from local_kafka.programs import fetch
from streams.config import KafkaConfig
from streams.permissions import Operation, Resource, Right
from tests.support.certificates import Authority

NODES = 3
ADMIN = "admin"
BROKER = "broker"
MECHANISM = "SCRAM-SHA-512"
HEAP = "400m"
STARTED = "Kafka Server started"
SCRAM_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"

SETTINGS = {
    **NODE_SETTINGS,
    "listener.security.protocol.map": "CLIENT:SASL_SSL,INTERNAL:SSL,CONTROLLER:SSL",
    "inter.broker.listener.name": "INTERNAL",
    "sasl.enabled.mechanisms": MECHANISM,
    "listener.name.client.scram-sha-512.sasl.jaas.config": f"{SCRAM_MODULE} required;",
    "ssl.keystore.type": "PEM",
    "ssl.truststore.type": "PEM",
    # brokers know each other by their certificates
    "listener.name.internal.ssl.client.auth": "required",
    "listener.name.controller.ssl.client.auth": "required",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": f"User:CN={BROKER};User:{ADMIN}",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    # the default of nine seconds is a long time for a test that kills brokers
    "broker.session.timeout.ms": "5000",
    "broker.heartbeat.interval.ms": "1000",
}
"""Of every node."""

OPERATIONS = {
    Operation.READ: AclOperation.READ,
    Operation.WRITE: AclOperation.WRITE,
    Operation.CREATE: AclOperation.CREATE,
    Operation.DELETE: AclOperation.DELETE,
    Operation.DESCRIBE: AclOperation.DESCRIBE,
    Operation.DESCRIBE_CONFIGS: AclOperation.DESCRIBE_CONFIGS,
    Operation.ALTER_CONFIGS: AclOperation.ALTER_CONFIGS,
}
RESOURCES = {
    Resource.TOPIC: ResourceType.TOPIC,
    Resource.GROUP: ResourceType.GROUP,
    Resource.TRANSACTIONAL_ID: ResourceType.TRANSACTIONAL_ID,
}


def password_of(user: str) -> str:
    """Each user has one."""
    return f"secret of {user}"


class Node:
    """One broker, which is a controller, too."""

    def __init__(self, number: int, folder: Path, ports: tuple[int, int, int]) -> None:
        """ports: for clients, for brokers and for controllers."""
        self.number = number
        self.folder = folder
        self.ports = ports
        self._process: JavaProcess | None = None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.alive()

    @property
    def pid(self) -> int | None:
        """Of the Java virtual machine, while it runs."""
        return self._process.identity.pid if self._process is not None and self._process.alive() else None

    @property
    def last_line(self) -> str:
        """What it wrote last."""
        return "" if self._process is None else self._process.tail().strip().rpartition("\n")[2]

    def configure(self, authority: Authority, keys: Path, voters: str) -> None:
        """Write server.properties."""
        addresses = zip(("CLIENT", "INTERNAL", "CONTROLLER"), self.ports, strict=True)
        listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in addresses)
        settings = SETTINGS | {
            "node.id": str(self.number),
            "listeners": listeners,
            "advertised.listeners": listeners.rsplit(",", 1)[0],
            "controller.quorum.voters": voters,
            "ssl.keystore.location": str(keys),
            "ssl.truststore.location": str(authority.path),
            "log.dirs": str(self.folder / "data"),
        }
        self.folder.mkdir()
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        (self.folder / "server.properties").write_text(text)

    def format(self, jars: Path, cluster: str, users: Iterable[str]) -> JavaProcess:
        """Begin to prepare its data folder."""
        passwords = [f"{MECHANISM}=[name={user},password={password_of(user)}]" for user in users]
        return JavaProcess(
            ["-Xmx128m", FRUGAL, *LOGGING, "-cp", f"{jars}/*", "kafka.tools.StorageTool", "format",
             "--cluster-id", cluster, "--config", str(self.folder / "server.properties"),
             *(word for password in passwords for word in ("--add-scram", password))],
            log=self.folder / "format.log",
        )  # fmt: skip

    def start(self, jars: Path) -> None:
        """Begin to start it."""
        self._process = JavaProcess(
            [f"-Xmx{HEAP}", FRUGAL, *LOGGING, "-cp", f"{jars}/*", "kafka.Kafka",
             str(self.folder / "server.properties")],
            log=self.folder / "kafka.log",
        )  # fmt: skip

    def wait(self) -> None:
        """Return when it serves clients."""
        assert self._process is not None
        deadline = time.monotonic() + START_S
        while STARTED not in self._process.output():
            assert self._process.alive(), self._process.tail()
            assert time.monotonic() < deadline, self._process.tail()
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a machine that loses its power does."""
        assert self._process is not None
        os.kill(self._process.identity.pid, signal.SIGKILL)
        self._process.stop(0)

    def stop(self) -> None:
        """End it in good order. Idempotent."""
        if self._process is not None:
            self._process.stop(5)


class Cluster:
    """A cluster that ends with the process that started it.

    nodes      of which each can be killed and started
    bootstrap  host:port of all of them
    jars       Kafka itself
    """

    def __init__(self, *users: str) -> None:
        """Start it with these users, who have no rights yet, and with an administrator."""
        self.jars = fetch(KAFKA)
        with ExitStack() as undo:
            self._scratch = Scratch("imagetools-cluster-")
            undo.callback(self._scratch.close)
            folder = self._scratch.path
            self.authority = Authority(folder)
            ports = free_ports(3 * NODES)
            self.nodes = [
                Node(n + 1, folder / str(n + 1), (ports[3 * n], ports[3 * n + 1], ports[3 * n + 2]))
                for n in range(NODES)
            ]
            self.bootstrap = ",".join(f"127.0.0.1:{node.ports[0]}" for node in self.nodes)
            self._format((ADMIN, *users))
            for node in self.nodes:
                undo.callback(node.stop)
                node.start(self.jars)
            for node in self.nodes:
                node.wait()
            self._admin = AdminClient(self.config(ADMIN).client())
            self.wait()
            undo.pop_all()

    def _format(self, users: Iterable[str]) -> None:
        keys = self.authority.issue(BROKER)
        voters = ",".join(f"{node.number}@127.0.0.1:{node.ports[2]}" for node in self.nodes)
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        tools = []
        for node in self.nodes:
            node.configure(self.authority, keys, voters)
            tools.append(node.format(self.jars, cluster, users))
        for node, tool in zip(self.nodes, tools, strict=True):
            deadline = time.monotonic() + START_S
            while tool.alive() and time.monotonic() < deadline:
                time.sleep(0.02)
            tool.stop(0)
            assert (node.folder / "data" / "meta.properties").exists(), tool.output()

    # what clients need

    def settings(self, user: str) -> dict[str, str]:
        """Settings of librdkafka by which a user logs in."""
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": MECHANISM,
            "sasl.username": user,
            "sasl.password": password_of(user),
            "ssl.ca.location": str(self.authority.path),
        }

    def config(self, user: str, prefix: str = "") -> KafkaConfig:
        """How a user reaches the cluster."""
        return KafkaConfig(self.bootstrap, prefix=prefix, settings=self.settings(user))

    def environ(self, user: str, prefix: str = "") -> dict[str, str]:
        """The same as variables, as docs/deploy.md names them."""
        named = {f"KAFKA_{name.upper().replace('.', '_')}": text for name, text in self.settings(user).items()}
        return {"KAFKA_BOOTSTRAP_SERVERS": self.bootstrap, "TOPIC_PREFIX": prefix, **named}

    # rights

    def grant(self, user: str, rights: Iterable[Right]) -> None:
        """Give a user rights."""
        for made in self._admin.create_acls([_binding(user, right) for right in dict.fromkeys(rights)]).values():
            made.result()

    def withdraw(self, user: str, rights: Iterable[Right]) -> None:
        """Take rights away, and wait until brokers say so."""
        filters = [_filter(user, right) for right in rights]
        for gone in self._admin.delete_acls(filters).values():
            assert len(list(gone.result())) == 1
        for one in filters:
            # brokers learn of it from the controllers
            deadline = time.monotonic() + START_S
            while list(self._admin.describe_acls(one).result()):
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def withdraw_all(self, user: str, rights: Iterable[Right]) -> None:
        """Take rights away, those that the user has."""
        for gone in self._admin.delete_acls([_filter(user, right) for right in rights]).values():
            gone.result()

    # nodes

    def restart(self, node: Node) -> None:
        """Start a node again, and wait until it serves clients."""
        node.start(self.jars)
        node.wait()

    @property
    def is_whole(self) -> bool:
        """Whether all brokers are there, and each has a copy of everything."""
        try:
            found = self._admin.list_topics(timeout=5)
        except KafkaException:
            return False
        partitions = [one for topic in found.topics.values() for one in topic.partitions.values()]
        return len(found.brokers) == NODES and all(len(one.isrs) == NODES for one in partitions)

    def wait(self) -> None:
        """Return when it is whole."""
        deadline = time.monotonic() + START_S
        while not self.is_whole:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop all of it. Idempotent."""
        for node in self.nodes:
            if node.alive:
                # nobody needs its data: waiting for its partitions to move would only take time
                node.kill()
            node.stop()
        self._scratch.close()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _binding(user: str, right: Right) -> AclBinding:
    return AclBinding(
        RESOURCES[right.resource], right.name, _pattern(right), f"User:{user}", "*",
        OPERATIONS[right.operation], AclPermissionType.ALLOW,
    )  # fmt: skip


def _filter(user: str, right: Right) -> AclBindingFilter:
    return AclBindingFilter(
        RESOURCES[right.resource], right.name, _pattern(right), f"User:{user}", "*",
        OPERATIONS[right.operation], AclPermissionType.ALLOW,
    )  # fmt: skip


def _pattern(right: Right) -> ResourcePatternType:
    return ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL
