"""Java processes that end with the process that started them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from imagetools.errors import PrerequisiteMissing
from imagetools.process_logs import exit_reason
from local_kafka.programs import java

GUARD = Path(__file__).with_name("orphan_guard.py")
STOP_S = 15.0
"""From SIGTERM to SIGKILL; a clean stop of Kafka takes about one second."""
TAIL_LINES = 25
MAX_SHIFT_S = 60.0
"""Start times this close are the same: setting the clock shifts them, and no process id is reused that soon."""


@dataclass(frozen=True)
class Identity:
    """A process, as opposed to a later one with the same id.

    started  seconds since the epoch
    """

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> "Identity":
        """Return the identity of a process; if it has ended, one that is never alive."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return cls(pid, 0.0)

    def alive(self) -> bool:
        """Return whether it still runs; a zombie does not."""
        try:
            found = psutil.Process(self.pid)
            return abs(found.create_time() - self.started) < MAX_SHIFT_S and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def stop(self, deadline_s: float = STOP_S) -> None:
        """Send SIGTERM, and SIGKILL if it still runs at the deadline. Idempotent."""
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
        """Write the identity and more about the process to a file."""
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps({"pid": self.pid, "started": self.started, **more}))
        partial.rename(path)


def read_state(path: Path) -> dict[str, Any] | None:
    """Return what `Identity.save` wrote to a file; None if there is no such file."""
    try:
        state: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return state


class JavaProcess:
    """A Java virtual machine in its own session, which ends with the process that started it.

    A guard process between the two sees to that (orphan_guard.py). A detached machine outlives its starter.
    """

    def __init__(
        self, arguments: Sequence[str], *, log: Path, detached: bool = False, scratch: Path | None = None
    ) -> None:
        """Start the machine.

        arguments  for the java launcher
        log        its output is appended here
        scratch    a folder to remove, too, if the starter is killed
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
            # in the C locale Java finds no file whose name has other characters than ASCII's
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
        assert self._guard.stdout is not None
        with self._guard.stdout as pipe:
            try:
                answer = pipe.readline()
            except BaseException:
                # interrupted: the guard ends with its input, and its output must stay open until then
                self._guard.communicate()
                raise
        if not answer:
            raise PrerequisiteMissing(f"{java()} cannot be run on this machine")
        self.identity = Identity.of(int(answer))
        if detached:
            self._release()

    def alive(self) -> bool:
        """Return whether it still runs."""
        return self.identity.alive()

    def ending(self) -> str:
        """Return how it ended: a signal, or the exit code with the last words of its log."""
        try:
            code = self._guard.wait(STOP_S)
        except subprocess.TimeoutExpired:
            return "without a word"
        if code > 128:
            # the guard reports a signal as a shell does
            return signal.Signals(code - 128).name
        return f"exit code {code}: {self.words()}"

    def words(self) -> str:
        """Return the line of its log that says why it ended."""
        return exit_reason(self.log, self._log_from)

    def output(self) -> str:
        """Return its output so far."""
        with self.log.open("rb") as file:
            file.seek(self._log_from)
            return file.read().decode(errors="replace")

    def tail(self) -> str:
        """Return the last lines of its output."""
        return "\n".join(self.output().splitlines()[-TAIL_LINES:])

    def stop(self, deadline_s: float = STOP_S) -> None:
        """Stop it and wait until it has ended. Idempotent."""
        self.identity.stop(deadline_s)
        self._release()

    def _release(self) -> None:
        assert self._guard.stdin is not None
        # the guard ends with the program; a pipe closed before that means that this process has died
        self._guard.wait()
        self._guard.stdin.close()
