"""Processes of a service that are started again whenever they end."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

AGAIN_S = 1.0
REFUSED = 2


@dataclass
class Member:
    """One process of a stage, life after life.

    kills       how often it was killed
    ended       how often it ended by itself, with a code other than 0
    """

    name: str
    stage: str
    environ: dict[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    kills: int = 0
    ended: int = 0
    _due: float = 0.0
    _killed: bool = False

    def tend(self) -> None:
        """Start the next life where one has ended. AssertionError where it was refused."""
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return
            if not self._due:
                assert code != REFUSED, f"{self.name} was refused:\n{self.log.read_text()[-3000:]}"
                self.ended += not self._killed
                self._due = time.monotonic() + AGAIN_S
            if time.monotonic() < self._due:
                return
        self._due, self._killed = 0.0, False
        with self.log.open("ab") as out:
            command = [sys.executable, "-m", "imagetools", self.stage]
            self.process = subprocess.Popen(command, env=self.environ, stdout=out, stderr=out)

    @property
    def pid(self) -> int | None:
        """Of the process that runs."""
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    def kill(self) -> bool:
        """Kill it; False where it does not run."""
        if self.pid is None:
            return False
        self.kills += 1
        self._killed = True
        os.kill(self.pid, signal.SIGKILL)
        return True

    def stop(self) -> int:
        """End it in good order; its exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
