"""Stages as child processes: started, restarted when they die, stopped, and never left behind.

Each has a session of its own, so that Ctrl-C reaches this process alone and the stages end in order. Each reads its
standard input until that ends, which happens when this process is gone, however it went.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagetools.errors import ImageToolsError
from imagetools.process_logs import exit_reason, keep_copy
from schemas.records import StageState, State
from streams.exit_codes import EXIT_REFUSED, Failed

BACKOFF_S = (0.5, 10.0)
"""First and longest pause before a dead stage is restarted."""

STEADY_S = 60.0
"""After running this long, a stage's next pause is the first one again."""

STOP_S = 20.0
"""How long a stage may take to finish its batch."""

GIVE_UP = 3
"""Deaths in a row without progress after which a job gives up: the next start would end the same way."""


class StageRefused(ImageToolsError):
    """A stage stopped with the exit code that says a restart does not help."""


class StageFailed(Failed):
    """A stage died several times in a row without progress."""


@dataclass
class Member:
    """One stage process.

    settings   of this process alone
    number     among the processes of its supervisor, which no other has
    restarts   number of restarts
    deaths     in a row, without progress of its stage between them
    progress   of its stage, when it died last
    log_start  offset in the log at which its newest process begins
    """

    stage: str
    slot: int
    log: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    number: int = 0
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    pause: float = BACKOFF_S[0]
    restarts: int = 0
    deaths: int = 0
    progress: int | None = None
    log_start: int = 0

    @property
    def name(self) -> str:
        """Name of the process, and part of its transactional id, across restarts."""
        return f"{self.stage}-{self.slot}"

    @property
    def exit_reason(self) -> str:
        """Why its newest process ended, by its log."""
        return exit_reason(self.log, self.log_start)


@dataclass
class Supervisor:
    """Keeps stage processes running.

    environ   environment of the processes
    logs      a folder; one file a process
    progress  how far a stage is, any number that changes with its work, None where that cannot be known; with it, a
              stage that dies GIVE_UP times in a row without progress is StageFailed
    tell      called with the state of a process that died
    options   of the command line, for each stage but the bridge
    """

    environ: Mapping[str, str]
    logs: Path
    members: list[Member] = field(default_factory=list)
    progress: Callable[[str], int | None] | None = None
    tell: Callable[[StageState], None] | None = None
    options: Sequence[str] = ()
    stop_s: float = STOP_S

    def start(self, stage: str, count: int = 1, settings: Sequence[Mapping[str, str]] = ()) -> None:
        """Start `count` processes of a stage, or one with each of the settings."""
        self.logs.mkdir(parents=True, exist_ok=True)
        first = 1 + max((member.slot for member in self.members if member.stage == stage), default=-1)
        for slot, own in enumerate(settings or [{}] * count, first):
            member = Member(stage, slot, self.logs / f"{stage}-{slot}.log", own, self._free_number())
            self.members.append(member)
            self._launch(member)

    def restart_dead(self) -> list[str]:
        """Restart dead processes; return a line about each death.

        StageRefused if a restart cannot help, StageFailed if earlier restarts did not.
        """
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
            reason = _reason(code, member.exit_reason)
            if self.tell is not None:
                self.tell(self._died(member, reason))
            if code == EXIT_REFUSED:
                raise StageRefused(f"{member.name} stopped: {member.exit_reason}")
            self._give_up_in_time(member, reason)
            if now - member.started > STEADY_S:
                member.pause = BACKOFF_S[0]
            member.due = now + member.pause
            news.append(f"{member.name} died ({reason}); starting it again in {member.pause:.1f} s")
            member.pause = min(2 * member.pause, BACKOFF_S[1])
        return news

    def stop(self, members: Sequence[Member] | None = None) -> None:
        """Stop these processes, or all; each may finish its batch within `stop_s`. Returns when none is left."""
        chosen = list(self.members if members is None else members)
        for member in chosen:
            if member.process is not None:
                member.process.terminate()
        deadline = time.monotonic() + self.stop_s
        for member in chosen:
            if member.process is None:
                continue
            try:
                member.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()
            self._let_go(member)
        self.members[:] = [one for one in self.members if not any(one is member for member in chosen)]

    def _free_number(self) -> int:
        taken = {member.number for member in self.members}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def _give_up_in_time(self, member: Member, reason: str) -> None:
        if self.progress is None:
            return
        reached = self.progress(member.stage)
        if reached is None:
            return
        member.deaths = member.deaths + 1 if reached == member.progress or not member.deaths else 1
        member.progress = reached
        if member.deaths >= GIVE_UP:
            raise StageFailed(
                f"{member.name} died {member.deaths} times in a row and has done nothing between them ({reason}); "
                f"its log: {keep_copy(member.log)}"
            )

    def _died(self, member: Member, reason: str) -> StageState:
        images = self.environ.get("IMAGES_DIR", "")
        host = socket.gethostname()
        return StageState(
            member.stage, member.name, host, State.DIED, reason, restarts=member.restarts, images_dir=images
        )

    def _launch(self, member: Member) -> None:
        environ = {
            **self.environ,
            **member.settings,
            "MEMBER_NAME": member.name,
            "MEMBER_RESTARTS": str(member.restarts),
            "PYTHONUNBUFFERED": "1",
            "METRICS_PORT": self._metrics_port(member),
        }
        options = () if member.stage == "bridge" else self.options
        with member.log.open("ab") as out:
            member.log_start = out.tell()
            member.process = subprocess.Popen(
                [sys.executable, "-m", "imagetools", member.stage, "--stop-with-stdin", *options],
                env=environ,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        member.started = time.monotonic()

    def _metrics_port(self, member: Member) -> str:
        """Return a port for each process: the first has the one of the settings, the others count on."""
        first = self.environ.get("METRICS_PORT", "")
        return str(int(first) + member.number) if first.strip("0") else first

    def _let_go(self, member: Member) -> None:
        if member.process is not None and member.process.stdin is not None:
            member.process.stdin.close()
        member.process = None


def stop_with_stdin() -> None:
    """Send this process SIGTERM when its standard input ends, and end it STOP_S later in any case."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_S)
        os._exit(1)

    threading.Thread(target=wait, name="stdin", daemon=True).start()


def _reason(code: int, words: str) -> str:
    """Return how a process ended: the signal, or the exit code with the reason in its log."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}: {words}"
