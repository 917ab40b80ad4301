"""`imagetools reshard`: another number of shards, while the service runs or while no search does."""

import time
from collections.abc import Callable, Iterable
from contextlib import closing

import click

from cli.slow_progress import SlowProgress
from imagetools.errors import ConfigError
from schemas.records import StageState
from streams.config import KafkaConfig
from streams.kafka.admin import end_offsets, shard_groups
from streams.kafka.clients import admin_client
from streams.kafka.resharding import prepare, processes, remove, without_marks, write_mark
from streams.kafka.resharding import reshard as move_stopped
from streams.sharding.marks import Mark, Role, ShardGroup
from streams.sharding.shards import Shard
from streams.topics import EMBEDDINGS
from streams.watching.states import StateFollower

LOOK_S = 0.5

MAX_LAG = 1000
"""Offsets. A shard that is as near to the log's end answers within seconds, and images wait for it no longer."""


def reshard(kafka: KafkaConfig, count: int, say: Callable[[str], None] = click.echo) -> None:
    """Let `count` shards answer instead of those that do; returns when nothing of the others is left.

    Can be interrupted anywhere, and run again. ConfigError where it cannot be done.
    """
    groups = shard_groups(kafka)
    if groups.answering != count and not processes(kafka, groups):
        offset = move_stopped(kafka, count)
        say(f"From offset {offset:,} of the log on, {_names(count)} {_verb(count, 'answer')}. Start now.")
        return
    if groups.answering != count:
        _change(kafka, count, say)
    try:
        _finish(kafka, count, say)
    except KeyboardInterrupt:
        say(f"\n{_names(count)} {_verb(count, 'answer')}. `imagetools reshard {count}` goes on where this was.")
        raise


def _change(kafka: KafkaConfig, count: int, say: Callable[[str], None]) -> None:
    """Let the new shards catch up with the log, and switch."""
    answering = prepare(kafka, count)
    say(
        f"{_names(answering)} {_verb(answering, 'answer')}. {_names(count)} may follow the log now: start "
        f"{'it' if count == 1 else 'them'} beside the others (`imagetools up` does so by itself)."
    )
    try:
        _catch_up(kafka, count, answering, say)
    except KeyboardInterrupt:
        say(
            f"\nNothing is switched: {_names(answering)} {_verb(answering, 'go', 'goes')} on answering. "
            f"`imagetools reshard {count}` goes on where this was, `imagetools reshard {answering}` takes the new "
            "shards away."
        )
        raise
    offset = write_mark(kafka, Mark(count, answering))
    say(f"Switched: from offset {offset:,} of the log on, {_names(count)} {_verb(count, 'answer')}.")


def _catch_up(kafka: KafkaConfig, count: int, answering: int, say: Callable[[str], None]) -> None:
    """Return when all new shards follow the log's end.

    ConfigError where one of those that answer is of a version that would not heed the switch.
    """
    # it changes nothing, and whoever commits an offset behind it follows the log and knows marks
    probe = write_mark(kafka, Mark(answering, count))
    progress = SlowProgress(say)
    admin, log = admin_client(kafka), kafka.topic(EMBEDDINGS.name)
    with closing(StateFollower(kafka)) as states:
        while True:
            groups = shard_groups(kafka)
            if old := without_marks(groups, answering, probe):
                raise ConfigError(
                    f"search {_listed(old)} runs an earlier version, which would go on answering: upgrade all "
                    "searches, then run this again"
                )
            end = end_offsets(admin, log)[0]
            new = groups.of(count)
            if all(group.offset > probe and end - group.offset <= MAX_LAG for group in new):
                say("All new shards have caught up.")
                return
            running = processes(kafka, new)
            now = states.now()
            progress.show("\n".join(_standing(group, running, now, probe, end) for group in new))
            time.sleep(LOOK_S)


def _standing(group: ShardGroup, running: Iterable[Shard], states: Iterable[StageState], probe: int, end: int) -> str:
    """Say in a line how far a new shard is."""
    name = f"  search {group.shard}"
    if group.shard not in running:
        return f"{name}: no process with SHARD={group.shard} runs yet"
    if group.offset > probe:
        return f"{name}: {end - group.offset:,} offsets behind"
    own = f"shard {group.shard}: "
    replays = (state.reason.removeprefix(own) for state in states if state.reason.startswith(own))
    return f"{name}: {next(replays, 'starting')}"


def _finish(kafka: KafkaConfig, count: int, say: Callable[[str], None]) -> None:
    """Wait until the other shards have done their part and have stopped; remove their groups."""
    progress, dismissed = SlowProgress(say), False
    while (groups := shard_groups(kafka)).counts != [count]:
        others = [group for group in groups if group.shard.count != count]
        running = processes(kafka, others)
        # old shards that still answer, and new ones that do not yet
        behind = [group.shard for group in groups if (group.role is Role.ANSWERS) != (group.shard.count == count)]
        if behind:
            progress.show(_still_to_come(behind, processes(kafka, groups)))
        elif not dismissed:
            write_mark(kafka, Mark(count))
            dismissed = True
        elif running:
            words = "`imagetools up` stops its own, stop others yourself"
            progress.show(f"  not needed any more: search {_listed(running)}; {words}")
        else:
            remove(kafka, [group.shard for group in others])
            continue
        time.sleep(LOOK_S)
    say(f"Done: {_names(count)} {_verb(count, 'answer')}, and no others are left.")


def _still_to_come(behind: Iterable[Shard], running: Iterable[Shard]) -> str:
    """Say which shards have not come to the switch, and what to do."""
    here = set(running)
    words = [f"{shard}" if shard in here else f"{shard}, of which no process runs: start it" for shard in behind]
    return f"  not at the switch yet, leave it running: search {'; '.join(words)}"


def _names(count: int) -> str:
    return "SHARD=0/1" if count == 1 else f"SHARD=0/{count} to SHARD={count - 1}/{count}"


def _verb(count: int, many: str, one: str = "") -> str:
    return (one or f"{many}s") if count == 1 else many


def _listed(shards: Iterable[Shard]) -> str:
    return ", ".join(map(str, shards))
