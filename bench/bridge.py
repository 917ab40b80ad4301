"""The cost of HTTP: each endpoint against the library called in process, and against itself behind a backlog.

    python -m bench.bridge [--photos FOLDER] [--indexed N] [--requests N] [--backlog N]

In process, the stage object that answers requests is called as a function. The difference is HTTP, JSON, Avro and two
trips through Kafka. The sides alternate, request by request, so that a drift of the machine affects both. "nothing" is
a match request without neighbors, which costs the trip alone. The backlog is of images in images.new; fingerprints and
candidates queue up behind them as they do in use.
"""

import asyncio
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import click
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.bridge_sides import LibraryCalls, RunningService, lay_out
from bench.pipeline import SHARED, made_photos
from streams.service import keep_freed_memory

NEIGHBORS = 10
WARM_UP = 10
BROKER_WARM_UP = 2000
"""Requests before the measurement: a broker that has just started takes a third longer, until its virtual machine has
compiled what runs often."""

PAUSE_S = 0.01
"""Between the sides: after its work, a network's threads spin for a moment on the cores that the other needs."""

AT_A_TIME = 16
THROUGHPUT_S = 5.0
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
        """Return the time that this share of the requests stays within."""
        return float(np.quantile(self.taken, share))

    def note(self, work: Callable[[], object]) -> None:
        """Time a call."""
        began = time.perf_counter()
        work()
        self.taken.append(1000 * (time.perf_counter() - began))


@click.command()
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder of photos.")
@click.option("--indexed", default=1000, show_default=True, help="Images that the index holds.")
@click.option("--requests", default=200, show_default=True, help="Requests of each kind.")
@click.option("--backlog", default=10_000, show_default=True, help="Images that wait.")
def main(photos: Path | None, indexed: int, requests: int, backlog: int) -> None:
    """Compare the endpoints with the library, and with themselves behind a backlog."""
    # as the stages do
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        folder = photos or (SHARED if SHARED.is_dir() else made_photos(home / "photos", 2000))
        images, held, waiting = lay_out(folder, home / "images", indexed, backlog)
        with closing(RunningService(images, home)) as service:
            _measure(service, images, held, waiting, requests)


def _measure(service: RunningService, images: Path, held: list[str], waiting: list[str], requests: int) -> None:
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
    with closing(LibraryCalls(images, fingerprints)) as library:
        for name, asked in bodies.items():
            over[name], direct[name] = _in_turns(service, library, name, asked)
            if name != "nothing":
                rates[name] = _rates(service, library, name, asked)
    _print_cost(over, direct, rates, len(held))
    idle, behind, left = _behind(service, bodies, waiting, len(held))
    _print_backlog(idle, behind, len(waiting), left)


def _in_turns(service: RunningService, library: LibraryCalls, name: str, asked: list[Any]) -> tuple[Times, Times]:
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


def _rates(service: RunningService, library: LibraryCalls, name: str, asked: list[Any]) -> tuple[float, float]:
    """Return requests a second: over HTTP, AT_A_TIME at once, and in process, one after the other."""
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
    service: RunningService, bodies: dict[str, list[Any]], waiting: list[str], decided: int
) -> tuple[dict[str, Times], dict[str, Times], int]:
    """Time the same requests idle and behind a backlog; return the number of images left in it, too."""
    idle = _round(service, bodies)
    service.announce(waiting, alert=True)
    # until every stage is at work
    while service.decided() <= decided + 100:
        continue
    behind = _round(service, bodies)
    return idle, behind, decided + len(waiting) - service.decided()


def _round(service: RunningService, bodies: dict[str, list[Any]]) -> dict[str, Times]:
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
                # new images each time, so that both sides open them
                yield {"candidate": path, "neighbors": [paths[(11 * n + k) % len(paths)] for k in range(NEIGHBORS)]}
            case _:
                yield {"candidate": paths[0], "neighbors": []}


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
