"""The pause of a rolling restart: two processes of each stage, ended by SIGTERM and started again one by one.

    python -m bench.restarts [--rate 5] [--away 5]

Images are announced at a steady rate all the time. A process is restarted when the one before is ready again, as a
StatefulSet does it. For each restart the table has:

ended    from SIGTERM to the process's end
ready    from SIGTERM until /readyz of its successor answers 200
gap      the longest time between two verdicts, from SIGTERM to SETTLE_S after ready
wait     the longest time that an image announced then waited for its verdict
"""

import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.pipeline import made_photos
from cli.announcing.announce import Announcer
from cli.announcing.sources import NamedImage
from imagetools.folder import find_images
from local_kafka.broker import LocalKafka
from local_kafka.ports import free_ports
from schemas.records import Verdict
from streams.config import KafkaConfig
from streams.kafka.admin import create_topics, reach
from streams.kafka.follower import Follower
from streams.topics import VERDICTS

STAGES = ("encoder", "search", "matcher", "grouping")
PHOTOS = 400
SETTLE_S = 3.0
STEADY_S = 10.0
DEADLINE_S = 120.0


@dataclass(frozen=True)
class Restart:
    """One restart. Times are of time.monotonic()."""

    name: str
    began: float
    ended: float
    ready: float

    @property
    def over(self) -> float:
        """When its effects count no longer."""
        return self.ready + SETTLE_S


class SteadyStream:
    """Images that come in at a steady rate, and their verdicts.

    announced, judged  when, by request id
    """

    def __init__(self, kafka: KafkaConfig, paths: list[str], rate: float) -> None:
        self.announced: dict[int, float] = {}
        self.judged: dict[int, float] = {}
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._announce, args=(kafka, paths, rate)),
            threading.Thread(target=self._follow, args=(kafka,)),
        ]

    def start(self) -> None:
        """Announce from now on."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop announcing, and wait for the last verdicts."""
        deadline = time.monotonic() + DEADLINE_S
        self._over.set()
        self._threads[0].join()
        while len(self.judged) < len(self.announced) and time.monotonic() < deadline:
            time.sleep(0.1)
        self._threads[1].join()

    def gap(self, begin: float, end: float) -> float:
        """Return the longest time between two verdicts that overlaps begin to end."""
        times = sorted(self.judged.values())
        return max(later - one for one, later in itertools.pairwise(times) if later > begin and one < end)

    def wait(self, begin: float, end: float) -> float:
        """Return the longest time from an announcement, made from begin to end, to its verdict."""
        return max(self.judged[number] - at for number, at in self.announced.items() if begin < at < end)

    def _announce(self, kafka: KafkaConfig, paths: list[str], rate: float) -> None:
        announcer = Announcer(kafka)
        began = time.monotonic()
        for number, path in enumerate(itertools.cycle(paths), 1):
            if self._over.wait(max(0.0, began + number / rate - time.monotonic())):
                return
            self.announced[number] = time.monotonic()
            announcer.announce([NamedImage(path)], first=number)

    def _follow(self, kafka: KafkaConfig) -> None:
        with closing(Follower(kafka, (VERDICTS,), from_beginning=True)) as follower:
            while not self._over.is_set() or len(self.judged) < len(self.announced):
                for seen in follower.read(0.1):
                    if isinstance(seen.record, Verdict) and seen.record.request_id is not None:
                        self.judged.setdefault(seen.record.request_id, time.monotonic())


class StageProcess:
    """One process of a stage, which can be ended and started again."""

    def __init__(self, stage: str, number: int, environ: Mapping[str, str], logs: Path) -> None:
        self.name = f"{stage}-{number}"
        (self._port,) = free_ports(1)
        self._stage = stage
        self._log = logs / f"{self.name}.log"
        self._environ = {**environ, "MEMBER_NAME": self.name, "METRICS_PORT": str(self._port)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it ends with this program."""
        command = [sys.executable, "-m", "imagetools", self._stage, "--stop-with-stdin"]
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(command, env=self._environ, stdin=subprocess.PIPE, stdout=out, stderr=out)

    def stop(self) -> None:
        """End it by SIGTERM."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(DEADLINE_S)
        if code:
            raise click.ClickException(f"{self.name} ended with {code}:\n{self._log.read_text()}")

    def until_ready(self) -> None:
        """Wait until its probe says that it is ready."""
        deadline = time.monotonic() + DEADLINE_S
        while not self._is_ready():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise click.ClickException(f"{self.name} is not ready:\n{self._log.read_text()}")
            time.sleep(0.05)

    def restart(self, away_s: float) -> Restart:
        """End it, and start it again some seconds later."""
        began = time.monotonic()
        self.stop()
        ended = time.monotonic()
        time.sleep(away_s)
        self.start()
        self.until_ready()
        return Restart(self.name, began, ended, time.monotonic())

    def _is_ready(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


@contextmanager
def service(home: Path, images: Path) -> Iterator[tuple[KafkaConfig, list[StageProcess]]]:
    """Run a Kafka and two processes of each stage, all of them ready."""
    with LocalKafka.start(home / "kafka") as broker, ExitStack() as stack:
        kafka = reach(KafkaConfig(broker.bootstrap))
        create_topics(kafka)
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")},
            "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
            "IMAGES_DIR": str(images),
            "INDEX_DIR": str(home / "index"),
            "FEATURES_DIR": str(home / "features"),
        }
        processes = [StageProcess(stage, number, environ, home) for stage in STAGES for number in range(2)]
        for process in processes:
            process.start()
            stack.callback(process.stop)
        for process in processes:
            process.until_ready()
        yield kafka, processes


@click.command()
@click.option("--rate", default=5.0, show_default=True, help="Announcements a second.")
@click.option("--away", default=0.0, show_default=True, help="Seconds between a process's end and its new start.")
def main(rate: float, away: float) -> None:
    """Restart two processes of each stage one by one, while images come in."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        images = made_photos(home / "images", PHOTOS)
        with service(home, images) as (kafka, processes):
            stream = SteadyStream(kafka, sorted(find_images(images)), rate)
            with closing(stream):
                stream.start()
                began = time.monotonic()
                time.sleep(STEADY_S)
                steady = time.monotonic()
                restarts = []
                for process in processes:
                    restarts.append(process.restart(away))
                    time.sleep(SETTLE_S)
    _print(stream, restarts, (began + SETTLE_S, steady))


def _print(stream: SteadyStream, restarts: Sequence[Restart], steady: tuple[float, float]) -> None:
    table = Table("restarted", "ended s", "ready s", "gap s", "wait s")
    table.add_row("none", "", "", f"{stream.gap(*steady):.1f}", f"{stream.wait(*steady):.1f}")
    for one in restarts:
        times = (one.ended - one.began, one.ready - one.began)
        pauses = (stream.gap(one.began, one.over), stream.wait(one.began, one.over))
        table.add_row(one.name, *(f"{seconds:.1f}" for seconds in (*times, *pauses)))
    console = Console()
    console.print(table)
    lost = len(stream.announced) - len(stream.judged)
    console.print(f"{len(stream.announced):,} images announced, {lost} without a verdict")


if __name__ == "__main__":
    main()
