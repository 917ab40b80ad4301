"""Stages as processes of this one: started, restarted when they die, stopped, and never left behind.

Each has a session of its own, so that Ctrl-C reaches this process alone and the stages end in order. Each reads its
standard input until that ends, which happens when this process is gone, however it went.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from streams.service import EXIT_REFUSED

BACKOFF_S = (0.5, 10.0)
"""First and longest pause before a dead stage is started again."""

STEADY_S = 60.0
"""A stage that ran this long starts over with the first pause."""

STOP_S = 20.0
"""How long a stage may take to finish its batch."""


class StageFailed(Exception):
    """A stage stopped and said that a restart does not help."""


@dataclass
class Member:
    """One stage process.

    restarts  how often it was started again
    """

    stage: str
    slot: int
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    pause: float = BACKOFF_S[0]
    restarts: int = 0

    @property
    def name(self) -> str:
        """Names the process, and its transactional id across restarts."""
        return f"{self.stage}-{self.slot}"


@dataclass
class Supervisor:
    """Keeps stage processes running.

    environ  what they run with
    logs     a folder; one file a process
    """

    environ: Mapping[str, str]
    logs: Path
    members: list[Member] = field(default_factory=list)

    def start(self, stage: str, count: int = 1) -> None:
        """Start `count` processes of a stage."""
        self.logs.mkdir(parents=True, exist_ok=True)
        for slot in range(count):
            member = Member(stage, slot, self.logs / f"{stage}-{slot}.log")
            self.members.append(member)
            self._launch(member)

    def tend(self) -> list[str]:
        """Start again what has died; says what happened. StageFailed where that is no use."""
        news = []
        now = time.monotonic()
        for member in self.members:
            process = member.process
            if process is None:
                if now >= member.due:
                    member.restarts += 1
                    self._launch(member)
                continue
            code = process.poll()
            if code is None:
                continue
            self._let_go(member)
            if code == EXIT_REFUSED:
                raise StageFailed(f"{member.name} stopped: {self.last_words(member)}")
            if now - member.started > STEADY_S:
                member.pause = BACKOFF_S[0]
            member.due = now + member.pause
            news.append(f"{member.name} died ({_ending(code)}); starting it again in {member.pause:.1f} s")
            member.pause = min(2 * member.pause, BACKOFF_S[1])
        return news

    def stop(self) -> None:
        """End all: each may finish its batch. Returns when none is left."""
        for member in self.members:
            if member.process is not None:
                member.process.terminate()
        deadline = time.monotonic() + STOP_S
        for member in self.members:
            if member.process is None:
                continue
            try:
                member.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()
            self._let_go(member)
        self.members.clear()

    def last_words(self, member: Member) -> str:
        """The end of a process's log."""
        lines = member.log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it wrote no log"

    def _launch(self, member: Member) -> None:
        environ = {**self.environ, "MEMBER_NAME": member.name, "PYTHONUNBUFFERED": "1"}
        with member.log.open("ab") as out:
            member.process = subprocess.Popen(
                [sys.executable, "-m", "imagetools", member.stage, "--stop-with-stdin"],
                env=environ,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        member.started = time.monotonic()

    def _let_go(self, member: Member) -> None:
        if member.process is not None and member.process.stdin is not None:
            member.process.stdin.close()
        member.process = None


def stop_with_stdin() -> None:
    """Send this process SIGTERM when its standard input ends; some time later, end it whatever it is doing."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_S)
        os._exit(1)

    threading.Thread(target=wait, name="stdin", daemon=True).start()


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
