"""`imagetools index`: the size, memory, place and age of the index, of each search process."""

import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.status import silent_shards, standings
from schemas.records import StageState
from streams.config import KafkaConfig
from streams.kafka.lag import StageLag
from streams.states import absent, in_words, read_states

SEARCH: Final = "search"
UNKNOWN: Final = "-"


class IndexOf(msgspec.Struct, omit_defaults=False):
    """The index of one search process; what a process of an earlier version does not say is None.

    shard               its index and the number of shards
    answers             whether it owns its shard; otherwise it stands by
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
    answers: bool
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
    states = read_states(kafka)
    searches = [state for state in states if state.stage == SEARCH]
    found = indexes(searches, lags)
    if as_lines:
        for one in found:
            sys.stdout.buffer.write(msgspec.json.encode(one) + b"\n")
        sys.stdout.buffer.flush()
        return
    console = Console()
    console.print(_table(found))
    missing = [f"no {SEARCH} runs"] if SEARCH in absent(states) else []
    missing += [line for _, line in silent_shards(lags)]
    silent = [state for state in searches if not state.figures]
    missing += [f"{in_words(state)}; it says nothing of its index yet" for state in silent]
    for line in missing:
        console.print(Text(line, "yellow"), soft_wrap=True)


def indexes(searches: Sequence[StageState], lags: Sequence[StageLag]) -> list[IndexOf]:
    """Return the index of each process, by shard; one that answers before those that stand by.

    lags  of the search, with its shards
    """
    by_shard = {shard.stage.removeprefix(f"{SEARCH} "): shard.lag for lag in lags for shard in lag.shards}
    whole = lags[0].lag if lags else 0
    found = [_index_of(state, by_shard.get(state.labels.get("shard", ""), whole)) for state in searches]
    owners = {one.shard: one for one in found if one.answers}
    for one in found:
        owner = owners.get(one.shard)
        if not one.answers and owner is not None and None not in (one.offset, owner.offset, one.lag):
            # the group's lag is that of the process that answers
            one.lag = (owner.lag or 0) + max(0, (owner.offset or 0) - (one.offset or 0))
    return sorted(found, key=lambda one: (_order(one.shard), not one.answers, one.process))


def _index_of(state: StageState, lag: int) -> IndexOf:
    figures, labels = state.figures, state.labels
    snapshot = figures.get("index_snapshot_time_seconds", 0.0)

    def number(name: str) -> int | None:
        return int(figures[name]) if name in figures else None

    return IndexOf(
        shard=labels.get("shard"),
        process=state.process,
        host=state.host,
        state=state.state,
        answers=figures.get("partitions", 0) > 0,
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


def _table(found: Sequence[IndexOf]) -> Table:
    table = Table("shard", "process", "", "images", "fingerprints", "shared", "memory", "offset", "lag", "snapshot")
    table.add_column("engine and model", overflow="fold")
    for one in found:
        table.add_row(
            one.shard or UNKNOWN,
            one.process,
            "answers" if one.answers else "stands by",
            *(UNKNOWN if n is None else f"{n:,}" for n in (one.images, one.fingerprints, one.shared_fingerprints)),
            UNKNOWN if one.memory_bytes is None else f"{one.memory_bytes / 2**20:,.0f} MB",
            *(UNKNOWN if n is None else f"{n:,}" for n in (one.offset, one.lag)),
            "none" if one.snapshot_age_s is None else f"{timedelta(seconds=round(one.snapshot_age_s))} ago",
            " ".join(filter(None, (one.engine, one.model))) or UNKNOWN,
        )
    answering = [one for one in found if one.answers]
    if len(answering) > 1:
        images = sum(one.images or 0 for one in answering)
        memory = sum(one.memory_bytes or 0 for one in answering)
        table.add_section()
        table.add_row("all", "", "", f"{images:,}", "", "", f"{memory / 2**20:,.0f} MB")
    return table
