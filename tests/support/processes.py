"""What tests of whole commands share: processes that are started, waited for, and read."""

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

COMMAND = [sys.executable, "-u", "-m", "imagetools"]
ENVIRON = {k: v for k, v in os.environ.items() if not k.startswith(("KAFKA_", "TOPIC_PREFIX", "IMAGES_DIR"))}

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2  # linux/prctl.h, linux/capability.h


def without_overriding_rights() -> None:
    """For a child, before its program starts: the superuser may read no file either that its mode forbids."""
    if sys.platform == "linux" and os.geteuid() == 0:
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0


@dataclass
class Running:
    """A command that runs, and what it has said."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text("utf-8")

    def said(self, text: str, deadline_s: float = 100.0) -> float:
        """Wait until it has said this; how long that took."""
        began = time.monotonic()
        while text not in self.text:
            assert self.process.poll() is None or text in self.text, self.text
            assert time.monotonic() - began < deadline_s, self.text
            time.sleep(0.02)
        return time.monotonic() - began

    def ends(self, code: int, deadline_s: float = 100.0) -> str:
        """Wait until it ends with this code; what it has said."""
        assert self.process.wait(deadline_s) == code, self.text
        return self.text

    def stages(self, name: str) -> list[psutil.Process]:
        """The processes of a stage under it."""
        return [p for p in psutil.Process(self.process.pid).children(recursive=True) if name in p.cmdline()]


def start(
    *words: str | Path,
    log: Path,
    environ: Mapping[str, str] = {},
    stdin: int | None = None,
    preexec: Callable[[], None] | None = None,
) -> Running:
    """Start a command; its output goes to the log."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*COMMAND, *map(str, words)],
            env={**ENVIRON, **environ},
            stdin=stdin,
            stdout=out,
            stderr=out,
            preexec_fn=preexec,  # noqa: PLW1509 - tests start processes from one thread
        )
    return Running(process, log)


def kafka_of(running: Running) -> psutil.Process:
    """The Kafka that a command has started for itself."""
    (found,) = [
        p
        for p in psutil.Process(running.process.pid).children(recursive=True)
        if "kafka.Kafka" in p.cmdline() and Path(p.cmdline()[0]).name == "java"
    ]
    return found


def broken(folder: Path, stage: str) -> dict[str, str]:
    """An environment in which a stage dies when it loads its libraries, as where one is not installed."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"if {stage!r} in sys.orig_argv:\n"
        "    print('restarts', os.environ['MEMBER_RESTARTS'], file=sys.stderr)\n"
        "    class Missing:\n"
        "        def find_spec(self, name, path=None, target=None):\n"
        "            if name in ('openvino', 'torch', 'ngtpy', 'cv2'):\n"
        "                raise ModuleNotFoundError(\"No module named 'packaging'\")\n"
        "    sys.meta_path.insert(0, Missing())\n"
    )
    return {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
