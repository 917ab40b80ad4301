"""Java programs: fetched once and completely, and ended with the process that started them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from imagetools.errors import PrerequisiteMissing
from local_kafka.ports import free_ports, is_free
from local_kafka.process import Identity, JavaProcess
from local_kafka.programs import Program, fetch

WEB_SERVER = ["-Xmx32m", "-m", "jdk.httpserver", "-b", "127.0.0.1", "-p", "0"]
"""A Java program that runs until it is ended, and starts in a moment."""

STARTER = """
import os, signal, sys
from pathlib import Path
from local_kafka.process import JavaProcess
scratch = Path(sys.argv[1])
java = JavaProcess(sys.argv[3:], log=scratch / "log", scratch=scratch)
if sys.argv[2] == "with a child":
    child = os.fork()
    if child == 0:
        signal.pause()
    print(child, java.identity.pid, java.identity.started, flush=True)
else:
    print(0, java.identity.pid, java.identity.started, flush=True)
signal.pause()
"""


def wait_until(condition: Callable[[], bool], deadline_s: float = 20.0) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def web_server(tmp_path: Path) -> Iterator[JavaProcess]:
    java = JavaProcess(WEB_SERVER, log=tmp_path / "log")
    wait_until(lambda: "Serving" in java.output())
    yield java
    java.stop()


def test_a_stopped_program_is_gone_and_can_be_stopped_again(web_server: JavaProcess) -> None:
    assert web_server.alive()
    web_server.stop()
    assert not web_server.alive()
    web_server.stop()


def test_a_program_that_does_not_heed_sigterm_is_killed(web_server: JavaProcess) -> None:
    os.kill(web_server.identity.pid, signal.SIGSTOP)
    web_server.stop(deadline_s=0.2)
    assert not web_server.alive()


def test_ctrl_c_does_not_reach_it(web_server: JavaProcess) -> None:
    assert os.getsid(web_server.identity.pid) != os.getsid(0)


def test_it_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    started: list[JavaProcess] = []
    thread = threading.Thread(target=lambda: started.append(JavaProcess(WEB_SERVER, log=tmp_path / "log")), daemon=True)
    thread.start()
    thread.join()
    wait_until(lambda: "Serving" in started[0].output())
    assert started[0].alive()
    started[0].stop()


@pytest.mark.parametrize("children", ["alone", "with a child"])
def test_a_killed_starter_leaves_no_program_and_no_scratch(tmp_path: Path, children: str) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-c", STARTER, str(scratch), children, *WEB_SERVER]
    # a child of the starter keeps the guard's pipe open, and lives on
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        child, pid, started = starter.stdout.readline().split()
        java = Identity(int(pid), float(started))
        assert java.alive()
        starter.kill()
        starter.wait()
        wait_until(lambda: not java.alive())
        wait_until(lambda: not scratch.exists())
        if int(child):
            os.kill(int(child), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_killed_guard_takes_the_program_along(web_server: JavaProcess) -> None:
    guard = psutil.Process(web_server.identity.pid).parent()
    assert guard is not None
    assert guard.ppid() == os.getpid()
    guard.kill()
    wait_until(lambda: not web_server.alive())


def test_a_detached_program_outlives_its_starter(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from local_kafka.process import JavaProcess
java = JavaProcess({WEB_SERVER!r}, log=Path({str(tmp_path / "log")!r}), detached=True)
print(java.identity.pid, java.identity.started)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pid, started = answer.stdout.split()
    java = Identity(int(pid), float(started))
    wait_until(lambda: "Serving" in (tmp_path / "log").read_text())
    assert java.alive()
    java.stop()
    assert not java.alive()


def test_a_later_process_of_the_same_id_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        earlier = Identity(other.pid, Identity.of(other.pid).started - 3600)
        assert not earlier.alive()
        earlier.stop()
        assert other.poll() is None
        other.communicate(b"\n")


def test_output_is_that_of_this_start_only(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("of an earlier start\n")
    java = JavaProcess(["no.such.Program"], log=tmp_path / "log")
    wait_until(lambda: not java.alive())
    java.stop()
    assert "no.such.Program" in java.tail()
    assert "earlier" not in java.tail()


def test_free_ports_are_free_and_a_used_one_is_not() -> None:
    ports = free_ports(3)
    assert len(set(ports)) == 3
    assert all(map(is_free, ports))
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        assert not is_free(server.server_address[1])


POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>org.example</groupId><artifactId>{name}</artifactId><version>1.0</version>{more}</project>"""
NEEDS = (
    "<dependencies><dependency><groupId>org.example</groupId><artifactId>part</artifactId><version>1.0</version>"
    "<scope>runtime</scope></dependency></dependencies>"
)
WHOLE = Program("Whole", ("org.example:whole:1.0",))


class Repository(ThreadingHTTPServer):
    """A Maven repository of two jars; it notes what it was asked for."""

    def __init__(self, root: Path) -> None:
        for name, more in (("whole", NEEDS), ("part", "")):
            folder = root / "org" / "example" / name / "1.0"
            folder.mkdir(parents=True)
            (folder / f"{name}-1.0.pom").write_text(POM.format(name=name, more=more))
            (folder / f"{name}-1.0.jar").write_text(f"the jar of {name}")
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), partial(RepositoryRequest, directory=str(root)))


class RepositoryRequest(SimpleHTTPRequestHandler):
    server: Repository

    def log_message(self, format: str, *args: object) -> None:
        self.server.asked.append(self.path)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    with Repository(tmp_path / "repository") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _configure_jgo(tmp_path, monkeypatch, f"http://127.0.0.1:{server.server_address[1]}")
        yield server
        server.shutdown()


def _configure_jgo(folder: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    settings = folder / "jgo.conf"
    settings.write_text(f"[settings]\ncache_dir = {folder / 'cache'}\n[repositories]\ncentral = {url}\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))


def test_a_program_is_fetched_once_by_whoever_asks_first(repository: Repository, tmp_path: Path) -> None:
    said: list[str] = []
    # what a fetch leaves that was killed halfway
    half = tmp_path / "cache" / "org.example-whole-1.0.partial"
    half.mkdir(parents=True)
    (half / "whole-1.0.jar").write_text("half a j")
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: fetch(WHOLE, said.append), range(4)))
    (folder,) = folders
    assert {f.name: f.read_text() for f in folder.iterdir()} == {
        "whole-1.0.jar": "the jar of whole",
        "part-1.0.jar": "the jar of part",
    }
    assert len(said) == 1
    assert sum(path.endswith("whole-1.0.jar") for path in repository.asked) == 1
    repository.asked.clear()
    assert fetch(WHOLE, said.append) == folder
    assert (said[1:], repository.asked) == ([], [])


def test_what_cannot_be_fetched_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _configure_jgo(tmp_path, monkeypatch, f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(PrerequisiteMissing, match=r"Whole could not be fetched(.|\n)*jgo.conf"):
        fetch(WHOLE)
    assert not (tmp_path / "cache" / WHOLE.folder_name).exists()
