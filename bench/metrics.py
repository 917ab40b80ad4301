"""What the metrics of a stage cost: CPU time of an image, of a turn of the loop, and of one scrape.

    python -m bench.metrics

The batches are those that a stage commits: embeddings, candidates, and verdicts with an alert for each third image.
The time is that of the thread; a real stage spends 2 to 18 CPU ms on an image (python -m bench.cost).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client import generate_latest
from rich.console import Console
from rich.table import Table

from schemas.records import Candidates, Duplicate, Duplicates, Verdict, VerdictOutcome
from streams.matcher_consumer import MatcherStage
from streams.search_consumer import SearchStage
from streams.stage import Outcome, Output, Received, Stage
from streams.topics import ANNOUNCED_AT, CANDIDATES, DUPLICATES, VERDICTS
from streams.watching.health import StageHealth
from streams.watching.metrics import StageMetrics
from streams.watching.observer import BatchStep

BATCHES = 2000
TURNS = 20_000
SCRAPES = 50


@dataclass(frozen=True)
class SixPartitions:
    """What a process with all partitions of a topic owns."""

    restoring: bool = False
    owned: int = 6

    def lag(self) -> dict[tuple[str, int], int]:
        """Return the same for each."""
        return {("candidates", number): 17 for number in range(self.owned)}


def main() -> None:
    table = Table("stage", "batch", "µs an image")
    for stage, outcome in ((SearchStage, searched), (MatcherStage, matched)):
        for size in (1, 8, 64):
            table.add_row(stage.name, str(size), f"{cost_of_an_image(stage, size, outcome):.1f}")
    console = Console()
    console.print(table)
    metrics = StageMetrics(MatcherStage, StageHealth(300))
    turn = seconds(lambda: metrics.turned(SixPartitions(), member=True), TURNS)
    committed(metrics, [received(number) for number in range(64)], [matched(number) for number in range(64)])
    scrape = seconds(lambda: generate_latest(metrics.registry), SCRAPES)
    console.print(f"a turn of the loop {1e6 * turn:.1f} µs, at most ten a second without messages")
    console.print(f"a scrape {1e3 * scrape:.1f} ms, every 15 s")


def cost_of_an_image(stage: type[Stage[Any]], size: int, outcome: Callable[[int], Outcome]) -> float:
    metrics = StageMetrics(stage, StageHealth(300))
    batch, outcomes = [received(number) for number in range(size)], [outcome(number) for number in range(size)]
    return 1e6 * seconds(lambda: committed(metrics, batch, outcomes), BATCHES) / size


def committed(metrics: StageMetrics, batch: Sequence[Received[Any]], outcomes: Sequence[Outcome]) -> None:
    """Do what a runner does to the metrics with one batch."""
    metrics.turned(SixPartitions(), member=True)
    for step in BatchStep:
        with metrics.timed(step):
            pass
    metrics.committed(batch, outcomes)


def seconds(call: Callable[[], object], times: int) -> float:
    call()
    began = time.thread_time()
    for _ in range(times):
        call()
    return (time.thread_time() - began) / times


def received(number: int) -> Received[Any]:
    headers = ((ANNOUNCED_AT, str(int(1000 * time.time())).encode()),)
    return Received(f"{number}.jpg", None, 0, number, 0, headers, CANDIDATES.name)


def searched(number: int) -> Outcome:
    path = f"{number}.jpg"
    return (Output(CANDIDATES, path, Candidates(number, path, ())),)


def matched(number: int) -> Outcome:
    path = f"{number}.jpg"
    found = [Output(VERDICTS, path, Verdict(number, path, VerdictOutcome.CLEAR))]
    if number % 3 == 0:
        pair = (Duplicate("a.jpg", 1.0),)
        found.append(Output(DUPLICATES, path, Duplicates(number, path, pair, "", 0.75, datetime.now(UTC), ())))
    return found


if __name__ == "__main__":
    main()
