"""A real Kafka of one's own: the pinned Apache Kafka jars on the Java runtime of a wheel, one node, on 127.0.0.1."""

import json
import os
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from imagetools.errors import PrerequisiteMissing
from imagetools.last_words import kept, last_words
from imagetools.scratch import Scratch, sweep
from local_kafka.container import ContainerKafka, NoContainer
from local_kafka.java import Identity, JavaProcess, Program, Progress, fetch, free_ports, is_free, quiet

VERSION = "4.4.0"
KAFKA = Program(
    f"Apache Kafka {VERSION}",
    # Kafka logs through slf4j 1.7 and brings no backend; the simple one writes to the standard error output
    (f"org.apache.kafka:kafka_2.13:{VERSION}", "org.slf4j:slf4j-simple:1.7.36"),
    megabytes=43,
)

START_S = 60.0
STARTED = "Kafka Server started"
TAKEN = "Address already in use"
ATTEMPTS = 5
HEAP = "512m"
FRUGAL = "-XX:TieredStopAtLevel=1"
"""A broker for one machine: over 3,000 images in a minute, thorough compiling took a third of its processor time."""

NODE_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    # one node cannot keep three copies, which the defaults ask for
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # the defaults of 50 are made for clusters; each is a folder to make, and to load after a restart
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    # a misspelt topic is an error, not a new topic
    "auto.create.topics.enable": "false",
    # members come one after the other here: wait for none, and notice soon that one has died
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "200",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "1000",
    # the transaction of a stage that was killed holds up the readers until it is found to be out of time
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # a year: a service that was switched off for a holiday goes on where it was
    "offsets.retention.minutes": "525600",
}
"""What differs from Kafka's defaults."""

LOGGING = [
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
]


class BrokerUnavailable(PrerequisiteMissing):
    """No Kafka can be had; the message says what is missing and how to get it."""


class LocalKafka:
    """A real single-node Apache Kafka of one's own.

    bootstrap  host:port for clients
    pid        of the Java virtual machine
    data_dir   holds its data, its log (kafka.log) and, while it runs, its state (kafka.json)

    It ends with the process that started it, even when that is killed, unless it was started detached.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int,
        identity: Identity,
        process: JavaProcess | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.bootstrap = f"127.0.0.1:{port}"
        self.pid = identity.pid
        self._identity = identity
        self._process = process
        self._scratch = scratch

    @classmethod
    def start(
        cls,
        data_dir: Path | None = None,
        *,
        port: int | None = None,
        properties: Mapping[str, str] | None = None,
        detached: bool = False,
        progress: Progress = quiet,
    ) -> "LocalKafka":
        """Start it; returns when it answers.

        data_dir    the same folder again: goes on with its data, at the same port where that is free.
                    None: a temporary folder, gone when the broker has ended
        port        None: a free one
        properties  broker settings beside NODE_SETTINGS, which they override
        detached    outlives this process; `stop_detached` ends it
        BrokerUnavailable when it cannot be fetched or does not start; the message is the error in its log.
        """
        if detached and data_dir is None:
            raise ValueError("a detached broker needs a folder, by which it is found again")
        try:
            class_path = f"{fetch(KAFKA, progress)}/*"
        except PrerequisiteMissing as exc:
            raise BrokerUnavailable(str(exc)) from exc
        progress(f"starting {KAFKA.title}")
        with ExitStack() as undo:
            sweep()
            scratch = Scratch("imagetools-kafka-") if data_dir is None else None
            if scratch:
                undo.callback(scratch.close)
            folder = (scratch.path if scratch else Path(str(data_dir))).resolve()
            try:
                folder.mkdir(parents=True, exist_ok=True)
                broker = cls._start_in(
                    folder, class_path, port=port, properties=properties or {}, detached=detached, scratch=scratch
                )
            except OSError as exc:
                if exc.filename is not None and not Path(os.fsdecode(exc.filename)).is_relative_to(folder):
                    raise BrokerUnavailable(f"{KAFKA.title} cannot be started: {exc.filename}: {exc.strerror}") from exc
                raise BrokerUnavailable(f"Kafka's data cannot be kept in {folder}: {exc.strerror or exc}") from exc
            undo.pop_all()
        return broker

    @classmethod
    def _start_in(
        cls,
        folder: Path,
        class_path: str,
        *,
        port: int | None,
        properties: Mapping[str, str],
        detached: bool,
        scratch: Scratch | None,
    ) -> "LocalKafka":
        if cls.attach(folder):
            raise BrokerUnavailable(f"a Kafka with its data in {folder} runs already")
        if port is not None and not is_free(port):
            raise BrokerUnavailable(f"127.0.0.1:{port} is taken by another program: --port names another port")
        before = _read_state(folder)
        usual = [before["port"], before["controller"]] if before and port is None else []
        for attempt in range(ATTEMPTS):
            ports = usual if attempt == 0 and usual and all(map(is_free, usual)) else free_ports(2)
            if port is not None:
                ports[0] = port
            _configure(folder, ports, properties)
            removed = scratch.path if scratch else None
            _format(folder, class_path, removed)
            process = JavaProcess(
                [f"-Xmx{HEAP}", FRUGAL, *LOGGING, "-cp", class_path, "kafka.Kafka", str(folder / "server.properties")],
                log=folder / "kafka.log",
                detached=detached,
                scratch=removed,
            )
            with ExitStack() as undo:
                undo.callback(process.stop, 0)
                if _answers(process, ports[0]):
                    process.identity.save(folder / "kafka.json", port=ports[0], controller=ports[1])
                    undo.pop_all()
                    return cls(folder, ports[0], process.identity, None if detached else process, scratch)
                output, words = process.output(), process.words()
            if TAKEN not in output:
                break
        raise BrokerUnavailable(f"{KAFKA.title} does not start: {words}; its log: {_lasting(folder, scratch)}")

    @classmethod
    def attach(cls, data_dir: Path) -> "LocalKafka | None":
        """The broker that runs with this folder's data, whoever started it; None when none does."""
        state = _read_state(data_dir)
        if state is None:
            return None
        identity = Identity(state["pid"], state["started"])
        return cls(data_dir, state["port"], identity) if identity.alive() else None

    @classmethod
    def stop_detached(cls, data_dir: Path) -> bool:
        """Stop the broker of this folder; False when none runs."""
        broker = cls.attach(data_dir)
        if broker is None:
            return False
        broker.stop()
        return True

    def alive(self) -> bool:
        """Whether it runs still."""
        return self._identity.alive()

    def failure(self) -> str:
        """How it ended, in one line with the path of its log; empty while it runs."""
        if self.alive():
            return ""
        how = self._process.ending() if self._process is not None else last_words(self.data_dir / "kafka.log")
        return f"Kafka died ({how}); its log: {_lasting(self.data_dir, self._scratch)}"

    def stop(self) -> None:
        """End it and wait until it has: SIGTERM, and SIGKILL after a deadline. Idempotent."""
        if self._process is not None:
            self._process.stop()
        else:
            self._identity.stop()
        if self._scratch is not None:
            self._scratch.close()

    def __enter__(self) -> "LocalKafka":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class Broker(Protocol):
    """A Kafka, wherever it runs."""

    bootstrap: str

    def failure(self) -> str:
        """How it ended, in one line with the path of its log; empty while it runs."""


@contextmanager
def broker(data_dir: Path | None = None, *, progress: Progress = quiet) -> Iterator[Broker]:
    """A Kafka for the length of a `with`: in a container where a Docker engine answers, otherwise a LocalKafka.

    data_dir  its data outlast it; always a LocalKafka then
    BrokerUnavailable where neither can be had.
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


def _configure(folder: Path, ports: list[int], properties: Mapping[str, str]) -> None:
    broker, controller = (f"127.0.0.1:{port}" for port in ports)
    settings = {
        **NODE_SETTINGS,
        "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
        "controller.quorum.bootstrap.servers": controller,
        "log.dirs": str(folder / "data"),
        **properties,
    }
    text = "".join(f"{name}={value}\n" for name, value in settings.items())
    (folder / "server.properties").write_text(text.replace("\\", "\\\\"))


def _format(folder: Path, class_path: str, scratch: Path | None) -> None:
    """Give an empty data folder its cluster id; one that has it is left alone."""
    if (folder / "data" / "meta.properties").exists():
        return
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
    tool = JavaProcess(
        [
            "-Xmx128m", FRUGAL, *LOGGING, "-cp", class_path, "kafka.tools.StorageTool", "format",
            "--standalone", "--cluster-id", cluster, "--config", str(folder / "server.properties"),
        ],
        log=folder / "kafka.log",
        scratch=scratch,
    )  # fmt: skip
    deadline = time.monotonic() + START_S
    while tool.alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    tool.stop(0)
    if not (folder / "data" / "meta.properties").exists():
        log = _lasting(folder, scratch)
        raise BrokerUnavailable(f"{KAFKA.title} cannot prepare {folder}: {tool.words()}; its log: {log}")


def _lasting(folder: Path, scratch: Scratch | Path | None) -> Path:
    """Where the log can be read, also after a temporary folder is gone."""
    return kept(folder / "kafka.log") if scratch else folder / "kafka.log"


def _answers(process: JavaProcess, port: int) -> bool:
    """Wait until the broker serves clients; False when it has ended or takes too long."""
    deadline = time.monotonic() + START_S
    while STARTED not in process.output():
        if not process.alive() or time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    try:
        AdminClient({"bootstrap.servers": f"127.0.0.1:{port}"}).list_topics(timeout=START_S)
    except KafkaException:
        return False
    return process.alive()


def _read_state(data_dir: Path) -> dict[str, int] | None:
    try:
        state: dict[str, int] = json.loads((data_dir / "kafka.json").read_text())
    except FileNotFoundError:
        return None
    return state
