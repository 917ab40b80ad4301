"""`imagetools reencode`: move a collection to another model."""

import re
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from imagetools.errors import ConfigError, ModelError
from imagetools.image_root import ImageRoot
from schemas.records import Embedding
from streams.config import EMBEDDINGS_TOPIC, Config, KafkaConfig
from streams.embeddings_log import log_model
from streams.encoding import load_encoder
from streams.kafka.admin import (
    GroupOffsets,
    commit_first_offsets,
    create_topics,
    end_offsets,
    has_grouped,
    reach,
    shard_groups,
    switch_mark,
)
from streams.kafka.authorization import require_rights
from streams.kafka.clients import TRANSACTION_TIMEOUT_MS, admin_client
from streams.kafka.lag import LagSampler, StageLag
from streams.kafka.retries import until_ready
from streams.reencoding import ReencoderStage, second_log, stage_name
from streams.runner import Runner
from streams.sharding.shards import Shard
from streams.topics import DECISIONS, EMBEDDINGS, IMAGES_NEW, TOPICS, Topic

LOOK_S = 0.5
SETTLED_S = TRANSACTION_TIMEOUT_MS / 1000 + 1
"""By this time an encoder that has left its group, killed or suspended, can commit nothing any more, and a search that
was just started has joined its group."""


def reencode(config: Config, target: str, *, switch: bool) -> None:
    """Bring the second log up to the first; with `switch`, make search and grouping continue from its end.

    ConfigError if the name cannot be the second log's, or as `obstacle` says at the switch; ModelError if the model
    is that of the first log, or not that of the second.
    """
    kafka = reach(config.kafka)
    topic = _checked(kafka, target)
    until_ready(lambda: require_rights(kafka, "reencode", target=target))
    second = replace(kafka, embeddings=target)
    encoder = load_encoder(config)
    if encoder.model == log_model(kafka):
        raise ModelError(f"MODELS_NAME gives {encoder.model}, which {kafka.topic(EMBEDDINGS.name)} has already")
    made = create_topics(kafka, topics=[topic])
    if made:
        # a cluster says nothing about rights on a topic that is not there
        until_ready(lambda: require_rights(kafka, "reencode", target=target))
    if not made and (known := log_model(second)) not in (None, encoder.model):
        raise ModelError(
            f"MODELS_NAME gives {encoder.model}, and {second.topic(EMBEDDINGS.name)} holds those of {known}"
        )
    admin = admin_client(kafka)
    commit_first_offsets(admin, kafka, stage_name(topic), EMBEDDINGS)
    console = Console(stderr=True, markup=False)
    images, limit = ImageRoot(config.images_dir, private=config.images_private), config.dead_letter_limit
    stage = ReencoderStage(encoder, images, topic, limit=limit, features=config.matcher)
    _follow(kafka, topic, Runner(stage, kafka), console, to_the_switch=switch)
    if stage.left_out:
        console.print(Text(f"{stage.left_out:,} images were left out: they cannot be read any more", style="yellow"))
    if not switch:
        console.print(Text(f"{target} has caught up. Stop the encoders, then run the same with --switch; it can wait."))
        return
    end = end_offsets(admin, second.topic(EMBEDDINGS.name))
    shards = replace(second, shard=Shard(0, shard_groups(kafka).answering or 1)).shards
    marks = [GroupOffsets(shard, "search") for shard in shards]
    if has_grouped(admin, kafka):
        marks.append(switch_mark(second, "grouping"))
    for offsets in marks:
        with closing(offsets):
            offsets.set(end)
    words = f"MODELS_NAME={config.models_name} EMBEDDINGS_TOPIC={target}"
    console.print(Text(f"Switched. Stop search and grouping, and start everything with {words}", style="bold"))


def _checked(kafka: KafkaConfig, target: str) -> Topic:
    taken = {topic.name for topic in TOPICS} | {kafka.embeddings, EMBEDDINGS_TOPIC, "requests"}
    if target in taken or not re.fullmatch(r"[\w.-]{1,100}", target, re.ASCII):
        raise ConfigError(f"--to is {target!r}: a new name is needed, of letters, digits, '.', '_' and '-'")
    return second_log(target)


def _follow(
    kafka: KafkaConfig, topic: Topic, runner: Runner[Embedding], console: Console, *, to_the_switch: bool
) -> None:
    """Run until the first log's end; KeyboardInterrupt ends it after the current batch."""
    name = stage_name(topic)
    # the encoders first: the lags sampled after them then include what the last encoder wrote
    sampler = LagSampler(kafka, {"encoder": IMAGES_NEW, name: EMBEDDINGS, "search": EMBEDDINGS, "grouping": DECISIONS})
    grouped = has_grouped(admin_client(kafka), kafka)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            runner.run()
        except BaseException as exc:
            failed.append(exc)

    thread = threading.Thread(target=run, name="reencoder")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        thread.start()
        with Progress(*columns, console=console) as progress:
            waiting = f"{topic.name}, until search and grouping have seen all" if to_the_switch else topic.name
            bar = progress.add_task(waiting, total=None)
            most, began = 0, time.monotonic()
            while thread.is_alive():
                settled = time.monotonic() - began > SETTLED_S
                encoders, ours, search, grouping = sampler.sample()
                followers = [search, *([grouping] if grouped else [])]
                most = max(most, ours.lag)
                progress.update(bar, total=most, completed=most - ours.lag)
                if to_the_switch and (reason := obstacle(kafka, encoders, followers if settled else [])):
                    raise ConfigError(reason)
                seen = settled and not any(one.lag for one in followers)
                if not ours.lag and (not to_the_switch or seen):
                    break
                time.sleep(LOOK_S)
    finally:
        runner.stop()
        thread.join()
        sampler.close()
    if failed:
        raise failed[0]


def obstacle(kafka: KafkaConfig, encoders: StageLag, followers: Sequence[StageLag]) -> str:
    """Return what must be put right before the switch; empty where nothing has to be.

    followers  stages that have to see all of the first log, except those that may just have been started
    """
    if encoders.members:
        return f"the encoder still runs ({_processes(encoders)}): stop it before the switch"
    for one in followers:
        # a grouping without a process may have seen all, while search has to say so until the end
        if not one.members and (one.lag or one.stage == "search"):
            return f"no {one.stage} follows {kafka.topic(EMBEDDINGS.name)}: it has to, until the switch"
    return ""


def _processes(standing: StageLag) -> str:
    return "1 process" if standing.members == 1 else f"{standing.members} processes"
