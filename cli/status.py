"""`imagetools status`: the lag of each stage, the state of its processes, and the newest dead letters."""

import time
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime

from confluent_kafka import KafkaException
from rich.console import Console
from rich.table import Table
from rich.text import Text

from imagetools.paths import shown
from schemas.records import State
from streams.config import KafkaConfig
from streams.kafka.admin import shard_groups
from streams.kafka.dead_letters import read_dead_letter
from streams.kafka.errors import with_remedy
from streams.kafka.follower import Follower
from streams.kafka.lag import LagSampler, StageLag
from streams.sharding.marks import Role
from streams.topics import DEAD_LETTERS
from streams.watching.states import absent, in_words, read_states

SAMPLE_S = 2.0
LOOK_BACK = 1000
"""Offsets before the end of dead-letters that are counted; the end of a transaction takes an offset, too."""

READ_S = 10.0
NEWEST = 5


def standings(kafka: KafkaConfig) -> list[StageLag]:
    """Sample the lag of each stage over SAMPLE_S. PrerequisiteMissing without Kafka or topics."""
    sampler = LagSampler(kafka)
    try:
        sampler.sample()
        time.sleep(SAMPLE_S)
        return sampler.sample()
    except KafkaException as exc:
        raise with_remedy(kafka, exc) from exc
    finally:
        sampler.close()


def show(kafka: KafkaConfig) -> None:
    """Print a table of all stages, a line for each process, and the newest dead letters."""
    table = Table("stage", "reads", "processes", "lag", "rate")
    lags = standings(kafka)
    for one in (shard for stage in lags for shard in stage.shards or [stage]):
        table.add_row(one.stage, one.topic, str(one.members), f"{one.lag:,}", f"{one.rate:,.0f}/s")
    console = Console()
    console.print(table)
    for style, line in (*silent_shards(lags), *further_shards(kafka), *processes(kafka), *dead_letters(kafka)):
        console.print(Text(line, style), soft_wrap=True)


def silent_shards(lags: Iterable[StageLag]) -> list[tuple[str, str]]:
    """Return a style and a line for each shard without a process, for which every image waits."""
    shards = [shard for stage in lags for shard in stage.shards]
    return [("yellow", f"no {shard.stage} runs: every image waits for it") for shard in shards if not shard.members]


def further_shards(kafka: KafkaConfig) -> list[tuple[str, str]]:
    """Return a style and a line for each shard of another number than of those that answer."""
    groups = shard_groups(kafka)
    words = {
        Role.ANSWERS: "answers for the images before the switch, and has not come to it yet",
        Role.FOLLOWS: "follows the log beside those that answer",
        Role.NOT_NEEDED: "is not needed any more",
    }
    return [
        ("", f"search {group.shard} {words[group.role]}") for group in groups if group.shard.count != groups.answering
    ]


def processes(kafka: KafkaConfig) -> list[tuple[str, str]]:
    """Return a style and a line for each process, and for each stage without one."""
    states = read_states(kafka)
    lines = [("yellow", f"no {stage} runs") for stage in absent(states)]
    for state in states:
        well = state.state in (State.RUNNING, State.STARTING)
        lines.append(("" if well else "yellow", f"{in_words(state)}, since {_local(state.since)}"))
    return lines


def dead_letters(kafka: KafkaConfig) -> list[tuple[str, str]]:
    """Return a style and a line for their number, and for each of the newest."""
    deadline = time.monotonic() + READ_S
    with closing(Follower(kafka, [DEAD_LETTERS], last=LOOK_BACK)) as follower:
        letters = []
        while not follower.caught_up and time.monotonic() < deadline:
            letters += [read_dead_letter(seen.message) for seen in follower.read(0.1)]
        whole = follower.whole_log
    more = "; `imagetools dead-letters list` marks those that were sent back since" if letters else ""
    lines = [("yellow" if letters else "", f"dead letters: {'' if whole else 'more than '}{len(letters):,}{more}")]
    for letter in letters[: -NEWEST - 1 : -1]:
        when = _local(datetime.fromisoformat(letter["time"]))
        name = shown(letter["relative_path"])
        lines.append(("", f"  {when}  {letter['stage']}  {name}  {letter['error_type']}: {letter['error_message']}"))
    return lines


def _local(moment: datetime) -> str:
    return moment.astimezone().strftime("%d %b %H:%M:%S")
