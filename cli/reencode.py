"""`imagetools reencode`: move a collection to another model."""

import re
import threading
import time
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
from streams.kafka.admin import GroupOffsets, commit_first_offsets, create_topics, end_offsets, reach
from streams.kafka.clients import TRANSACTION_TIMEOUT_MS, admin_client
from streams.kafka.lag import LagSampler, StageLag
from streams.reencoding import ReencoderStage, second_log, stage_name
from streams.runner import Runner
from streams.topics import EMBEDDINGS, IMAGES_NEW, TOPICS, Topic

LOOK_S = 0.5
SETTLED_S = TRANSACTION_TIMEOUT_MS / 1000 + 1
"""By this time an encoder that has left its group, killed or suspended, can commit nothing any more, and a search that
was just started has joined its group."""


def reencode(config: Config, target: str, *, switch: bool) -> None:
    """Bring the second log up to the first; with `switch`, make search continue from its end.

    ConfigError if the name cannot be the second log's, or if encoders still run at the switch; ModelError if the model
    is that of the first log, or not that of the second.
    """
    kafka = reach(config.kafka)
    topic = _checked(kafka, target)
    second = replace(kafka, embeddings=target)
    encoder = load_encoder(config)
    if encoder.model == log_model(kafka):
        raise ModelError(f"MODELS_NAME gives {encoder.model}, which {kafka.topic(EMBEDDINGS.name)} has already")
    made = create_topics(kafka, topics=[topic])
    if not made and (known := log_model(second)) not in (None, encoder.model):
        raise ModelError(
            f"MODELS_NAME gives {encoder.model}, and {second.topic(EMBEDDINGS.name)} holds those of {known}"
        )
    admin = admin_client(kafka)
    commit_first_offsets(admin, kafka, stage_name(topic), EMBEDDINGS)
    console = Console(stderr=True, markup=False)
    images, limit = ImageRoot(config.images_dir), config.dead_letter_limit
    stage = ReencoderStage(encoder, images, topic, limit=limit, features=config.matcher)
    _follow(kafka, topic, Runner(stage, kafka), console, to_the_switch=switch)
    if stage.left_out:
        console.print(Text(f"{stage.left_out:,} images were left out: they cannot be read any more", style="yellow"))
    if not switch:
        console.print(Text(f"{target} has caught up. Stop the encoders, then run the same with --switch; it can wait."))
        return
    offsets = GroupOffsets(second, "search")
    try:
        offsets.set(end_offsets(admin, second.topic(EMBEDDINGS.name)))
    finally:
        offsets.close()
    words = f"MODELS_NAME={config.models_name} EMBEDDINGS_TOPIC={target}"
    console.print(Text(f"Switched. Stop search, and start encoders and search with {words}", style="bold"))


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
    sampler = LagSampler(kafka, {"encoder": IMAGES_NEW, name: EMBEDDINGS, "search": EMBEDDINGS})
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
            waiting = f"{topic.name}, until search has seen all" if to_the_switch else topic.name
            bar = progress.add_task(waiting, total=None)
            most, began = 0, time.monotonic()
            while thread.is_alive():
                settled = time.monotonic() - began > SETTLED_S
                encoders, ours, search = sampler.sample()
                most = max(most, ours.lag)
                progress.update(bar, total=most, completed=most - ours.lag)
                if to_the_switch and encoders.members:
                    raise ConfigError(f"the encoder still runs ({_processes(encoders)}): stop it before the switch")
                if to_the_switch and settled and not search.members:
                    raise ConfigError(f"no search follows {kafka.topic(EMBEDDINGS.name)}: it has to, until the switch")
                if not ours.lag and (not to_the_switch or (settled and not search.lag)):
                    break
                time.sleep(LOOK_S)
    finally:
        runner.stop()
        thread.join()
        sampler.close()
    if failed:
        raise failed[0]


def _processes(standing: StageLag) -> str:
    return "1 process" if standing.members == 1 else f"{standing.members} processes"
