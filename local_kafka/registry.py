"""A real schema registry with Confluent's API: Apicurio Registry, in memory, on 127.0.0.1."""

import re
import time
import urllib.request
from contextlib import ExitStack
from types import TracebackType

from imagetools.errors import PrerequisiteMissing
from imagetools.scratch import Scratch
from local_kafka.ports import free_ports
from local_kafka.process import JavaProcess
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
    """A schema registry that keeps its schemas in memory only.

    url  for SCHEMA_REGISTRY_URL, or any client of Confluent's registry
    pid  of the Java virtual machine

    It ends with the process that started it, even if that is killed.
    """

    def __init__(self, url: str, process: JavaProcess, scratch: Scratch) -> None:
        self.url = url
        self.pid = process.identity.pid
        self._process = process
        self._scratch = scratch

    @classmethod
    def start(cls, *, progress: Progress = quiet) -> "LocalRegistry":
        """Start a registry on a free port; return when it answers.

        RegistryUnavailable if it cannot be fetched or does not start; the message shows the end of its log.
        """
        try:
            program = fetch(REGISTRY, progress) / "quarkus-run.jar"
        except PrerequisiteMissing as exc:
            raise RegistryUnavailable(str(exc)) from exc
        progress(f"starting {REGISTRY.title}")
        with ExitStack() as undo:
            scratch = Scratch("imagetools-registry-")
            undo.callback(scratch.close)
            for _ in range(ATTEMPTS):
                port, management = free_ports(2)
                process = JavaProcess(
                    [
                        f"-Xmx{HEAP}",
                        f"-Dquarkus.http.port={port}",
                        f"-Dquarkus.management.port={management}",
                        *SETTINGS,
                        "-jar",
                        str(program),
                    ],
                    log=scratch.path / "registry.log",
                    scratch=scratch.path,
                )
                with ExitStack() as failed:
                    failed.callback(process.stop, 0)
                    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
                    if _answers(process, url):
                        failed.pop_all()
                        undo.pop_all()
                        return cls(url, process, scratch)
                    output, tail = process.output(), process.tail()
                if not TAKEN.search(output):
                    break
        raise RegistryUnavailable(f"{REGISTRY.title} does not start; the end of its log:\n{tail}")

    def stop(self) -> None:
        """Stop it and wait until it has ended: SIGTERM, then SIGKILL after a deadline. Idempotent."""
        self._process.stop()
        self._scratch.close()

    def __enter__(self) -> "LocalRegistry":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


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
