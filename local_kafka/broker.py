"""A real Kafka: the pinned Apache Kafka jars on the Java runtime of a wheel, one node, on 127.0.0.1."""

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from imagetools.errors import PrerequisiteMissing
from imagetools.process_logs import exit_reason
from imagetools.scratch import Scratch, sweep
from local_kafka.node import FRUGAL, KAFKA, LOGGING, START_S, BrokerUnavailable, configure, format_data, log_path
from local_kafka.ports import free_ports, is_free
from local_kafka.process import Identity, JavaProcess, read_state
from local_kafka.programs import Progress, fetch, quiet

STARTED = "Kafka Server started"
TAKEN = "Address already in use"
ATTEMPTS = 5
HEAP = "512m"
FULL_BYTES = 16 * 2**20
"""A disk with less room is full: each partition of a topic begins with a file of 10 MB."""


class LocalKafka:
    """A real Apache Kafka of one node.

    bootstrap  host:port for clients
    pid        of the Java virtual machine
    data_dir   holds the data, the log (kafka.log) and, while it runs, the state (kafka.json)

    It ends with the process that started it, even if that is killed, unless it was started detached.
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
        """Start a broker; return when it answers.

        data_dir    a folder used before: continues with its data, at the same port if that is free.
                    None: a temporary folder, removed when the broker ends
        port        None: a free one
        properties  broker settings that override NODE_SETTINGS
        detached    the broker outlives this process; `stop_detached` ends it
        BrokerUnavailable if it cannot be fetched or does not start; the message quotes its log.
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
        before = read_state(folder / "kafka.json")
        usual = [before["port"], before["controller"]] if before and port is None else []
        for attempt in range(ATTEMPTS):
            ports = usual if attempt == 0 and usual and all(map(is_free, usual)) else free_ports(2)
            if port is not None:
                ports[0] = port
            configure(folder, ports, properties)
            removed = scratch.path if scratch else None
            format_data(folder, class_path, removed)
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
        raise BrokerUnavailable(f"{KAFKA.title} does not start: {words}; its log: {log_path(folder, scratch)}")

    @classmethod
    def attach(cls, data_dir: Path) -> "LocalKafka | None":
        """Return the broker that runs on this folder's data, from whatever process; None if there is none."""
        state = read_state(data_dir / "kafka.json")
        if state is None:
            return None
        identity = Identity(state["pid"], state["started"])
        return cls(data_dir, state["port"], identity) if identity.alive() else None

    @classmethod
    def stop_detached(cls, data_dir: Path) -> bool:
        """Stop the broker of this folder; return False if none runs."""
        broker = cls.attach(data_dir)
        if broker is None:
            return False
        broker.stop()
        return True

    def alive(self) -> bool:
        """Return whether it still runs."""
        return self._identity.alive()

    def failure(self) -> str:
        """Return how it ended, in one line with the path of its log; empty while it runs."""
        if self.alive():
            return ""
        how = self._process.ending() if self._process is not None else exit_reason(self.data_dir / "kafka.log")
        return f"Kafka died ({how}); its log: {log_path(self.data_dir, self._scratch)}{_if_full(self.data_dir)}"

    def stop(self) -> None:
        """Stop it and wait until it has ended: SIGTERM, then SIGKILL after a deadline. Idempotent."""
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


def _if_full(folder: Path) -> str:
    """Say that a folder's disk is full, which the last error of a log may not; empty where there is room."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        # somebody has deleted the folder, which may be why Kafka died
        return ""
    return f"; the disk of {folder} is full: {free // 2**20} MiB are free" if free < FULL_BYTES else ""


def _answers(process: JavaProcess, port: int) -> bool:
    """Wait until the broker serves clients; return False if it ends or takes too long."""
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
