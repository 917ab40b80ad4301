"""`imagetools index`: the size, memory, place and age of the index, of each search process."""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from enum import StrEnum
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.slow_progress import SlowProgress
from cli.standard_error import say
from cli.status import further_shards, silent_shards, standings
from schemas.records import StageState
from streams.config import KafkaConfig
from streams.kafka.admin import shard_groups
from streams.kafka.lag import StageLag
from streams.watching.states import BEAT_S, StateFollower, absent, in_words

SEARCH: Final = "search"
UNKNOWN: Final = "-"
LOOK_S: Final = 0.2
WIDE: Final = 130
"""Columns that a line for each process needs."""


class Duty(StrEnum):
    """What a search process has to do.

    ANSWERS    it owns its shard, and searches for new images
    STANDS_BY  it takes over when the one that answers is gone
    FOLLOWS    its shard is of another number than of those that answer
    """

    ANSWERS = "answers"
    STANDS_BY = "stands by"
    FOLLOWS = "follows"


class IndexOf(msgspec.Struct, omit_defaults=False):
    """The index of one search process; what a process of an earlier version does not say is None.

    shard               its index and the number of shards
    fingerprints        distinct ones
    shared_fingerprints those that several images have
    memory_bytes        resident, of the whole process
    offset              of the log, that the index stands at
    lag                 messages of the log that it has not seen
    snapshot_age_s      since the newest snapshot was written; None: there is none
    """

    shard: str | None
    process: str
    host: str
    state: str
    duty: Duty
    images: int | None
    fingerprints: int | None
    shared_fingerprints: int | None
    memory_bytes: int | None
    offset: int | None
    lag: int | None
    snapshot_age_s: float | None
    engine: str | None
    model: str | None


def show_index(kafka: KafkaConfig, *, as_lines: bool) -> None:
    """Print a table, or a line of JSON for each process."""
    lags = [lag for lag in standings(kafka) if lag.stage == SEARCH]
    groups = shard_groups(kafka)
    busy = any(lag.lag for lag in lags)
    states = _settled(kafka, {} if busy else {str(group.shard): group.offset for group in groups})
    searches = [state for state in states if state.stage == SEARCH]
    found = indexes(searches, lags, groups.answering or 1)
    if as_lines:
        for one in found:
            sys.stdout.buffer.write(msgspec.json.encode(one) + b"\n")
        sys.stdout.buffer.flush()
        return
    console = Console()
    console.print(_table(found, console.width))
    missing = [f"no {SEARCH} runs"] if SEARCH in absent(states) else []
    missing += [line for _, line in (*silent_shards(lags), *further_shards(kafka))]
    silent = [state for state in searches if not state.figures]
    missing += [f"{in_words(state)}; it says nothing of its index yet" for state in silent]
    for line in missing:
        console.print(Text(line, "yellow"), soft_wrap=True)


def _settled(kafka: KafkaConfig, committed: Mapping[str, int]) -> list[StageState]:
    """Return the state of each process, with figures of what its shard has committed, as far as they come in time.

    committed  offsets by shard; those of shards with nothing left to do, whose figures may be some seconds old
    """
    progress = SlowProgress(say)
    deadline = time.monotonic() + BEAT_S + 1
    with closing(StateFollower(kafka)) as follower:
        while True:
            states = follower.now(LOOK_S)
            old = [state for state in states if _is_behind(state, committed)]
            if not old or time.monotonic() > deadline:
                return states
            progress.show(f"waiting for the newest figures, which come every {BEAT_S:.0f} s")


def _is_behind(state: StageState, committed: Mapping[str, int]) -> bool:
    stands_at = state.figures.get("index_offset")
    return stands_at is not None and stands_at < committed.get(state.labels.get("shard", ""), 0)


def indexes(searches: Sequence[StageState], lags: Sequence[StageLag], count: int) -> list[IndexOf]:
    """Return the index of each process, by shard; one that answers before those that stand by.

    lags   of the search, with its shards
    count  of the shards that answer
    """
    by_shard = {shard.stage.removeprefix(f"{SEARCH} "): shard.lag for lag in lags for shard in lag.shards}
    whole = lags[0].lag if lags else 0
    found = [_index_of(state, by_shard.get(state.labels.get("shard", ""), whole), count) for state in searches]
    answering = {one.shard: one for one in found if one.duty is Duty.ANSWERS}
    for one in found:
        if one.duty is not Duty.ANSWERS and one.offset is not None:
            # the lag is that of the process that answers
            ahead = answering.get(one.shard) or next(iter(answering.values()), None)
            one.lag = None if ahead is None else (ahead.lag or 0) + max(0, (ahead.offset or 0) - one.offset)
    return sorted(found, key=lambda one: (_order(one.shard), one.duty is not Duty.ANSWERS, one.process))


def _index_of(state: StageState, lag: int, count: int) -> IndexOf:
    figures, labels = state.figures, state.labels
    shard = labels.get("shard")
    duty = Duty.ANSWERS if figures.get("partitions", 0) > 0 else Duty.STANDS_BY
    snapshot = figures.get("index_snapshot_time_seconds", 0.0)

    def number(name: str) -> int | None:
        return int(figures[name]) if name in figures else None

    return IndexOf(
        shard=shard,
        process=state.process,
        host=state.host,
        state=state.state,
        duty=Duty.FOLLOWS if shard and _order(shard)[0] != count else duty,
        images=number("index_images"),
        fingerprints=number("index_fingerprints"),
        shared_fingerprints=number("index_shared_fingerprints"),
        memory_bytes=number("resident_memory_bytes"),
        offset=number("index_offset"),
        lag=lag if "index_offset" in figures else None,
        snapshot_age_s=round(time.time() - snapshot, 1) if snapshot else None,
        engine=labels.get("engine"),
        model=labels.get("model"),
    )


def _order(shard: str | None) -> tuple[int, int]:
    index, _, count = (shard or "").partition("/")
    return (int(count), int(index)) if count else (0, 0)


def _table(found: Sequence[IndexOf], width: int) -> Table:
    """Return a line for each process, or where the terminal is too narrow, a line for each cell."""
    names = (
        "shard", "process", "", "images", "fingerprints", "shared", "memory", "offset", "lag", "snapshot",
        "engine and model",
    )  # fmt: skip
    rows = [_cells(one) for one in found]
    if width < WIDE:
        table = Table.grid(padding=(0, 2))
        for cells in rows:
            table.add_row(f"{cells[0]}  {cells[1]}", cells[2], style="bold")
            for name, cell in zip(names[3:], cells[3:], strict=True):
                table.add_row(f"  {name}", cell)
    else:
        table = Table(*names[:-1])
        table.add_column(names[-1], overflow="fold")
        for cells in rows:
            table.add_row(*cells)
    answering = [one for one in found if one.duty is Duty.ANSWERS]
    if len(answering) > 1:
        images = f"{sum(one.images or 0 for one in answering):,}"
        memory = _megabytes(sum(one.memory_bytes or 0 for one in answering))
        if width < WIDE:
            table.add_row("all shards", f"{images} images, {memory}", style="bold")
        else:
            table.add_section()
            table.add_row("all", "", "", images, "", "", memory)
    return table


def _cells(one: IndexOf) -> list[str]:
    return [
        one.shard or UNKNOWN,
        one.process,
        one.duty,
        *(UNKNOWN if n is None else f"{n:,}" for n in (one.images, one.fingerprints, one.shared_fingerprints)),
        UNKNOWN if one.memory_bytes is None else _megabytes(one.memory_bytes),
        *(UNKNOWN if n is None else f"{n:,}" for n in (one.offset, one.lag)),
        "none" if one.snapshot_age_s is None else f"{timedelta(seconds=round(one.snapshot_age_s))} ago",
        " ".join(filter(None, (one.engine, one.model))) or UNKNOWN,
    ]


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MB"
