"""What asking over HTTP costs: each endpoint against the same library called in process, idle and behind a backlog.

    python -m bench.bridge [--photos FOLDER] [--indexed N] [--requests N] [--backlog N]

In process means the very stage object that answers beside the stream, called as a function: what remains of the
difference is HTTP, JSON, Avro and two ways through Kafka. Both sides take turns, request by request, so that a drift of
the machine meets both. "nothing" is a match request without neighbors: the way alone. Behind a backlog: the same
requests while images wait in images.new, against those before it was announced; no backlog of fingerprints or
candidates is made by hand, they follow from the images.
"""

import asyncio
import itertools
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import aiohttp
import click
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.pipeline import SHARED, made_photos
from cli.announce import Announcer
from cli.supervisor import Supervisor
from imagetools.folder import find_images
from imagetools.image_root import ImageRoot
from imagetools.index.index import Index
from imagetools.index.state import Entry
from local_kafka.broker import LocalKafka
from local_kafka.ports import free_ports
from schemas.records import EncodeRequest, Envelope, MatchRequest, Reply, Request
from streams import matcher_consumer
from streams.config import Config, KafkaConfig
from streams.encoder_consumer import EncoderStage
from streams.encoding import load_encoder
from streams.kafka.admin import create_topics, reach
from streams.kafka.follower import Follower
from streams.service import keep_freed_memory
from streams.topics import VERDICTS

NEIGHBORS = 10
WARM_UP = 10
BROKER_WARM_UP = 2000
"""Requests before anything is measured: Kafka's virtual machine compiles what runs often, and one that has just started
takes a third longer."""

PAUSE_S = 0.01
"""Between the two sides: a network's threads spin on for a moment after its work, on the cores that the other needs."""

AT_A_TIME = 16
THROUGHPUT_S = 5.0
READY_S = 120.0
# as the command line sets it for the stages, before torch is loaded
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

PATHS = {
    "encoder": "/api-image-encoder",
    "search": "/api-contextual-search",
    "matcher": "/api-instance-matching",
    "nothing": "/api-instance-matching",
}


@dataclass
class Times:
    """Milliseconds of each request, one after the other."""

    taken: list[float] = field(default_factory=list)

    def of(self, share: float) -> float:
        """The time that this share of requests keeps within."""
        return float(np.quantile(self.taken, share))

    def note(self, work: Callable[[], object]) -> None:
        """Do it, and note how long it took."""
        began = time.perf_counter()
        work()
        self.taken.append(1000 * (time.perf_counter() - began))


class Service:
    """Kafka, the three stages and a bridge, each a process."""

    def __init__(self, images: Path, home: Path) -> None:
        self._stack = ExitStack()
        broker = LocalKafka.start(home / "kafka")
        self._stack.callback(broker.stop)
        self.kafka = reach(KafkaConfig(broker.bootstrap))
        create_topics(self.kafka)
        (self.port,) = free_ports(1)
        environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("KAFKA_", "BRIDGE_"))},
            "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
            "IMAGES_DIR": str(images),
            "INDEX_DIR": str(home / "index"),
            "SERVER_PORT": str(self.port),
        }
        supervisor = Supervisor(environ, home / "logs")
        self._stack.callback(supervisor.stop)
        for stage in ("encoder", "search", "matcher", "bridge"):
            supervisor.start(stage)
        self._verdicts = self._stack.enter_context(closing(Follower(self.kafka, [VERDICTS], from_beginning=True)))
        self._announcer = Announcer(self.kafka)
        self._decided = 0
        self._connection = HTTPConnection("127.0.0.1", self.port)

    def announce(self, paths: Sequence[str], *, alert: bool) -> None:
        """Announce all of them; returns when the broker has them."""
        self._announcer.announce(paths, alert=alert)

    def decided(self, timeout_s: float = 0.1) -> int:
        """How many images have their verdict by now."""
        self._decided += sum(1 for _ in self._verdicts.read(timeout_s))
        return self._decided

    def ask(self, path: str, body: bytes) -> Any:
        """One request on a connection that stays open; the response. ClickException where it is not served."""
        self._connection.request("POST", path, body)
        answer = self._connection.getresponse()
        told = json.loads(answer.read())
        if answer.status != 200:
            raise click.ClickException(f"{path}: {answer.status}, {told['error_message']}")
        return told["response"]

    def wait(self, path: str, body: bytes) -> None:
        """Until it is served."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                self.ask(path, body)
                return
            except (click.ClickException, OSError):
                self._connection.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def close(self) -> None:
        """Stop everything."""
        self._connection.close()
        self._stack.close()


class InProcess:
    """The library behind the endpoints, with no Kafka and no HTTP."""

    def __init__(self, images: Path, fingerprints: dict[str, Any]) -> None:
        config = Config(images_dir=images, source_dir=images, target_dir=images)
        self._encoder = EncoderStage(load_encoder(config), ImageRoot(images))
        self._matcher = matcher_consumer.make(config)
        self._index = Index()
        change = self._index.change()
        for order, (path, vector) in enumerate(fingerprints.items()):
            change.add(Entry(order, path), np.asarray(vector, np.float32))
        change.apply()
        self._envelope = Envelope("", "", 0, datetime.now(UTC) + timedelta(days=1))

    def run(self, endpoint: str, body: Any) -> object:
        """What the endpoint is asked for."""
        match endpoint:
            case "encoder":
                return _served(self._encoder.answer, EncodeRequest(self._envelope, body["relative_path"]))
            case "search":
                return self._index.search(np.asarray(body["vec_features"], np.float32), body["nb_neighbors"])
            case _:
                neighbors = tuple(body["neighbors"])
                return _served(self._matcher.answer, MatchRequest(self._envelope, body["candidate"], neighbors))

    def close(self) -> None:
        """End the threads."""
        self._encoder.close()
        self._matcher.close()
        self._index.close()


def _served(answer: Callable[[Sequence[Request]], Sequence[Reply]], request: Request) -> Reply:
    (reply,) = answer([request])
    return reply


@click.command()
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder of photos.")
@click.option("--indexed", default=1000, show_default=True, help="Images that the index holds.")
@click.option("--requests", default=200, show_default=True, help="Of each kind, one after the other.")
@click.option("--backlog", default=10_000, show_default=True, help="Images that are to be overtaken.")
def main(photos: Path | None, indexed: int, requests: int, backlog: int) -> None:
    """Compare the endpoints with the library, and with themselves behind a backlog."""
    # as the stages do
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        folder = photos or (SHARED if SHARED.is_dir() else made_photos(home / "photos", 2000))
        images, held, waiting = _laid_out(folder, home / "images", indexed, backlog)
        with closing(Service(images, home)) as service:
            _measure(service, images, held, waiting, requests)


def _measure(service: Service, images: Path, held: list[str], waiting: list[str], requests: int) -> None:
    service.wait(PATHS["encoder"], _dump({"request_id": 1, "relative_path": held[0]}))
    service.announce(held, alert=False)
    fingerprints = {
        path: service.ask(PATHS["encoder"], _dump({"request_id": 1, "relative_path": path}))["fingerprint"]
        for path in held
    }
    while service.decided() < len(held):
        continue
    bodies = {name: list(itertools.islice(_bodies(name, fingerprints), requests)) for name in PATHS}
    for body in itertools.islice(_bodies("nothing", fingerprints), BROKER_WARM_UP):
        service.ask(PATHS["nothing"], _dump(body))
    over: dict[str, Times] = {}
    direct: dict[str, Times] = {}
    rates: dict[str, tuple[float, float]] = {}
    with closing(InProcess(images, fingerprints)) as library:
        for name, asked in bodies.items():
            over[name], direct[name] = _in_turns(service, library, name, asked)
            if name != "nothing":
                rates[name] = _rates(service, library, name, asked)
    _print_cost(over, direct, rates, len(held))
    idle, behind, left = _behind(service, bodies, waiting, len(held))
    _print_backlog(idle, behind, len(waiting), left)


def _in_turns(service: Service, library: InProcess, name: str, asked: list[Any]) -> tuple[Times, Times]:
    over, direct = Times(), Times()
    for body in asked[:WARM_UP]:
        service.ask(PATHS[name], _dump(body))
        library.run(name, body)
    for body in asked:
        data = _dump(body)
        over.note(lambda data=data: service.ask(PATHS[name], data))  # type: ignore[misc]
        time.sleep(PAUSE_S)
        direct.note(lambda body=body: library.run(name, body))  # type: ignore[misc]
        time.sleep(PAUSE_S)
    return over, direct


def _rates(service: Service, library: InProcess, name: str, asked: list[Any]) -> tuple[float, float]:
    """Requests a second: AT_A_TIME over HTTP, and one after the other in process."""
    over = asyncio.run(_flood(f"http://127.0.0.1:{service.port}{PATHS[name]}", [_dump(body) for body in asked]))
    began, count = time.perf_counter(), 0
    for body in itertools.cycle(asked):
        library.run(name, body)
        count += 1
        if time.perf_counter() - began > THROUGHPUT_S:
            break
    return over, count / (time.perf_counter() - began)


async def _flood(url: str, bodies: list[bytes]) -> float:
    count, began = 0, time.perf_counter()
    turn = itertools.cycle(bodies)

    async def keep_asking(session: aiohttp.ClientSession) -> None:
        nonlocal count
        while time.perf_counter() - began < THROUGHPUT_S:
            async with session.post(url, data=next(turn)) as answer:
                await answer.read()
                if answer.status != 200:
                    raise click.ClickException(f"{url}: {answer.status}")
            count += 1

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        for _ in range(AT_A_TIME):
            tasks.create_task(keep_asking(session))
    return count / (time.perf_counter() - began)


def _behind(
    service: Service, bodies: dict[str, list[Any]], waiting: list[str], decided: int
) -> tuple[dict[str, Times], dict[str, Times], int]:
    """The times idle and behind a backlog, of the same requests, and how many images still waited at the end."""
    idle = _round(service, bodies)
    service.announce(waiting, alert=True)
    # until every stage is at work
    while service.decided() <= decided + 100:
        continue
    behind = _round(service, bodies)
    return idle, behind, decided + len(waiting) - service.decided()


def _round(service: Service, bodies: dict[str, list[Any]]) -> dict[str, Times]:
    times = {name: Times() for name in bodies}
    for n in range(min(len(asked) for asked in bodies.values())):
        for name, asked in bodies.items():
            data = _dump(asked[n])
            times[name].note(lambda name=name, data=data: service.ask(PATHS[name], data))  # type: ignore[misc]
    return times


def _bodies(name: str, fingerprints: dict[str, Any]) -> Iterator[Any]:
    paths = list(fingerprints)
    for n in itertools.count():
        path = paths[n % len(paths)]
        match name:
            case "encoder":
                yield {"request_id": n, "relative_path": path}
            case "search":
                yield {"nb_neighbors": NEIGHBORS, "vec_features": fingerprints[path]}
            case "matcher":
                # other images than the ones before, so that both sides open them
                yield {"candidate": path, "neighbors": [paths[(11 * n + k) % len(paths)] for k in range(NEIGHBORS)]}
            case _:
                yield {"candidate": paths[0], "neighbors": []}


def _laid_out(photos: Path, images: Path, indexed: int, backlog: int) -> tuple[Path, list[str], list[str]]:
    """A folder with all photos, and with as many names for them as the backlog needs."""
    paths = list(find_images(photos))
    # spread over all kinds, the same each time
    paths = [paths[k] for k in np.random.default_rng(0).permutation(len(paths))]
    held, rest = paths[:indexed], paths[indexed:] or paths
    waiting = [f"waiting/{k // len(rest)}/{rest[k % len(rest)]}" for k in range(backlog)]
    for path in (*held, *waiting):
        target = images / path
        target.parent.mkdir(parents=True, exist_ok=True)
        first = images / "waiting/0" / path.split("/", 2)[-1]
        if path.startswith("waiting/") and first.exists():
            os.link(first, target)
        else:
            shutil.copyfile(photos / path.removeprefix("waiting/0/"), target)
    return images, held, waiting


def _dump(body: Any) -> bytes:
    return json.dumps(body).encode()


def _print_cost(
    over: dict[str, Times], direct: dict[str, Times], rates: dict[str, tuple[float, float]], held: int
) -> None:
    table = Table(
        "", "HTTP p50 ms", "HTTP p99", "library p50", "library p99", "added at the median", "HTTP 1/s", "library 1/s",
        title=f"{held:,} images held, {NEIGHBORS} neighbors; 1/s: {AT_A_TIME} at a time, one thread of the library",
    )  # fmt: skip
    for name, times in over.items():
        own = direct[name]
        added = statistics.median(times.taken) - statistics.median(own.taken)
        rate = [f"{one:,.0f}" for one in rates.get(name, ())] or ["", ""]
        row = [f"{v:.1f}" for v in (times.of(0.5), times.of(0.99), own.of(0.5), own.of(0.99), added)]
        table.add_row(name, *row, *rate)
    Console().print(table)


def _print_backlog(idle: dict[str, Times], behind: dict[str, Times], count: int, left: int) -> None:
    table = Table("", "idle p50 ms", "behind p50", "behind p99", "more at the median", title=f"behind {count:,} images")
    for name, times in behind.items():
        more = times.of(0.5) - idle[name].of(0.5)
        table.add_row(name, *(f"{v:.1f}" for v in (idle[name].of(0.5), times.of(0.5), times.of(0.99), more)))
    Console().print(table)
    Console().print(f"{left:,} of them had no verdict yet after the last request")


if __name__ == "__main__":
    main()
