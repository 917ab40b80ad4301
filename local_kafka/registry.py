"""A real schema registry with Confluent's API: Apicurio Registry, on 127.0.0.1."""

import re
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from imagetools.errors import PrerequisiteMissing
from imagetools.scratch import Scratch
from local_kafka.ports import free_ports, is_free
from local_kafka.process import Identity, JavaProcess, read_state
from local_kafka.programs import Program, Progress, fetch, quiet

VERSION = "3.3.3"
REGISTRY = Program(
    f"Apicurio Registry {VERSION}",
    (f"io.apicurio:apicurio-registry-app:{VERSION}:all:tar.gz",),
    archive=True,
    megabytes=159,
)

START_S = 60.0
STARTED = "Listening on"
TAKEN = re.compile("(already|seems to be) in use")
ATTEMPTS = 5
HEAP = "256m"

SETTINGS = [
    "-Dquarkus.http.host=127.0.0.1",
    # always on in this build, and on every address by default
    "-Dquarkus.management.host=127.0.0.1",
    "-Dquarkus.banner.enabled=false",
    # with the access log, one 404 in 30 to 200 is logged but never sent; without it, one answer in 300,000
    "-Dquarkus.http.access-log.enabled=false",
    # the default of Confluent's registry
    "-Dapicurio.rules.global.compatibility=BACKWARD",
]


class RegistryUnavailable(PrerequisiteMissing):
    """No schema registry can be started; the message says what is missing and how to get it."""


class LocalRegistry:
    """A schema registry.

    url  for SCHEMA_REGISTRY_URL, or any client of Confluent's registry
    pid  of the Java virtual machine

    It ends with the process that started it, even if that is killed, unless it was started detached.
    """

    def __init__(
        self, port: int, identity: Identity, process: JavaProcess | None = None, scratch: Scratch | None = None
    ) -> None:
        self.url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
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
        detached: bool = False,
        progress: Progress = quiet,
    ) -> "LocalRegistry":
        """Start a registry; return when it answers.

        data_dir  keeps its schemas, its log (registry.log) and, while it runs, its state (registry.json).
                  None: the schemas are in memory only
        port      None: a free one
        detached  the registry outlives this process; `stop_detached` ends it
        RegistryUnavailable if it cannot be fetched or does not start; the message shows the end of its log.
        """
        if detached and data_dir is None:
            raise ValueError("a detached registry needs a folder, by which it is found again")
        if port is not None and not is_free(port):
            raise RegistryUnavailable(f"127.0.0.1:{port} is taken by another program: --registry-port names another")
        try:
            program = fetch(REGISTRY, progress) / "quarkus-run.jar"
        except PrerequisiteMissing as exc:
            raise RegistryUnavailable(str(exc)) from exc
        progress(f"starting {REGISTRY.title}")
        with ExitStack() as undo:
            scratch = Scratch("imagetools-registry-") if data_dir is None else None
            if scratch:
                undo.callback(scratch.close)
            folder = (scratch.path if scratch else Path(str(data_dir))).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            registry = cls._start_in(folder, program, port=port, detached=detached, scratch=scratch)
            undo.pop_all()
        return registry

    @classmethod
    def _start_in(
        cls, folder: Path, program: Path, *, port: int | None, detached: bool, scratch: Scratch | None
    ) -> "LocalRegistry":
        for _ in range(ATTEMPTS):
            ports = free_ports(2)
            if port is not None:
                ports[0] = port
            process = JavaProcess(
                [
                    f"-Xmx{HEAP}",
                    f"-Dquarkus.http.port={ports[0]}",
                    f"-Dquarkus.management.port={ports[1]}",
                    *SETTINGS,
                    *([] if scratch else _storage(folder)),
                    "-jar",
                    str(program),
                ],
                log=folder / "registry.log",
                detached=detached,
                scratch=scratch.path if scratch else None,
            )
            with ExitStack() as failed:
                failed.callback(process.stop, 0)
                registry = cls(ports[0], process.identity, None if detached else process, scratch)
                if _answers(process, registry.url):
                    process.identity.save(folder / "registry.json", port=ports[0])
                    failed.pop_all()
                    return registry
                output, tail = process.output(), process.tail()
            if not TAKEN.search(output):
                break
        raise RegistryUnavailable(f"{REGISTRY.title} does not start; the end of its log:\n{tail}")

    @classmethod
    def attach(cls, data_dir: Path) -> "LocalRegistry | None":
        """Return the registry that keeps its schemas in this folder, from whatever process; None if none runs."""
        state = read_state(data_dir / "registry.json")
        if state is None:
            return None
        identity = Identity(state["pid"], state["started"])
        return cls(state["port"], identity) if identity.alive() else None

    @classmethod
    def stop_detached(cls, data_dir: Path) -> bool:
        """Stop the registry of this folder; return False if none runs."""
        registry = cls.attach(data_dir)
        if registry is None:
            return False
        registry.stop()
        return True

    def stop(self) -> None:
        """Stop it and wait until it has ended: SIGTERM, then SIGKILL after a deadline. Idempotent."""
        if self._process is not None:
            self._process.stop()
        else:
            self._identity.stop()
        if self._scratch is not None:
            self._scratch.close()

    def __enter__(self) -> "LocalRegistry":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _storage(folder: Path) -> list[str]:
    """Return the settings that keep the schemas in files: messages name them by the numbers that they have there."""
    # a base folder of its own, since a path within the URL could hold characters with a meaning there
    return [f"-Dh2.baseDir={folder}", "-Dapicurio.datasource.url=jdbc:h2:./schemas"]


def _answers(process: JavaProcess, url: str) -> bool:
    """Wait until the registry serves clients; return False if it ends or takes too long."""
    # no proxy, whatever the environment says: this is 127.0.0.1
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_S
    # its own log first: another program might answer at this address
    while STARTED not in process.output():
        # with the port taken, it runs on for a while before it ends
        if not process.alive() or TAKEN.search(process.output()) or time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    try:
        with opener.open(f"{url}/subjects", timeout=START_S):
            return process.alive()
    except OSError:
        return False
