"""Moving a collection to another model."""

import re
import signal
import threading
import time
from dataclasses import replace

from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from imagetools.decode import ImageRoot
from imagetools.errors import ConfigError, ModelError
from schemas.records import Embedding
from streams.config import EMBEDDINGS_TOPIC, Config, KafkaConfig
from streams.encoding import load, model_of
from streams.follow import reach
from streams.reencoding import ReencoderStage, second_log, stage_name
from streams.runner import Runner
from streams.standings import Sampler, Standing
from streams.topics import (
    EMBEDDINGS,
    IMAGES_NEW,
    TOPICS,
    GroupOffsets,
    Topic,
    commit_first,
    create,
    end_offsets,
)

LOOK_S = 0.5


def reencode(config: Config, target: str, *, switch: bool) -> None:
    """Bring the second log up to the first; with `switch`, let search go on from its end.

    ConfigError for a name that cannot be the second log's, and where the encoders still run at the switch; ModelError
    where the model is the one that the first log has, or not the one that the second has.
    """
    kafka = reach(config.kafka)
    topic = _checked(kafka, target)
    second = replace(kafka, embeddings=target)
    encoder = load(config)
    if encoder.model == model_of(kafka):
        raise ModelError(f"MODELS_NAME gives {encoder.model}, which {kafka.topic(EMBEDDINGS.name)} has already")
    create(kafka, topics=[topic])
    if (known := model_of(second)) not in (None, encoder.model):
        raise ModelError(
            f"MODELS_NAME gives {encoder.model}, and {second.topic(EMBEDDINGS.name)} holds those of {known}"
        )
    commit_first(kafka, stage_name(topic), EMBEDDINGS)
    console = Console(stderr=True)
    runner = Runner(ReencoderStage(encoder, ImageRoot(config.images_dir), topic), kafka)
    _follow(kafka, topic, runner, console, to_the_switch=switch)
    words = f"MODELS_NAME={config.models_name} EMBEDDINGS_TOPIC={target}"
    if not switch:
        console.print(Text(f"{target} has caught up. Stop the encoders, then run the same with --switch; it can wait."))
        return
    offsets = GroupOffsets(second, "search")
    try:
        offsets.set(end_offsets(AdminClient(kafka.client()), second.topic(EMBEDDINGS.name)))
    finally:
        offsets.close()
    console.print(Text(f"Switched. Stop search, and start encoders and search with {words}", style="bold"))


def _checked(kafka: KafkaConfig, target: str) -> Topic:
    taken = {topic.name for topic in TOPICS} | {kafka.embeddings, EMBEDDINGS_TOPIC}
    if target in taken or not re.fullmatch(r"[\w.-]{1,100}", target, re.ASCII):
        raise ConfigError(f"--to is {target!r}: a new name is needed, of letters, digits, '.', '_' and '-'")
    return second_log(target)


def _follow(
    kafka: KafkaConfig, topic: Topic, runner: Runner[Embedding], console: Console, *, to_the_switch: bool
) -> None:
    """Run until the first log's end; KeyboardInterrupt ends it after the batch at hand."""
    name = stage_name(topic)
    sampler = Sampler(kafka, {name: EMBEDDINGS, "search": EMBEDDINGS, "encoder": IMAGES_NEW})
    failed: list[BaseException] = []

    def run() -> None:
        try:
            runner.run()
        except BaseException as exc:
            failed.append(exc)

    thread = threading.Thread(target=run, name="reencoder")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        thread.start()
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task(topic.name, total=None)
            most = 0
            while thread.is_alive():
                ours, search, encoders = sampler.sample()
                most = max(most, ours.lag)
                progress.update(bar, total=most, completed=most - ours.lag)
                if to_the_switch and encoders.members:
                    raise ConfigError(f"the encoder still runs ({_processes(encoders)}): stop it before the switch")
                if not ours.lag and not (to_the_switch and search.lag):
                    break
                time.sleep(LOOK_S)
    finally:
        runner.stop()
        thread.join()
        sampler.close()
        signal.signal(signal.SIGTERM, before)
    if failed:
        raise failed[0]


def _processes(standing: Standing) -> str:
    return "1 process" if standing.members == 1 else f"{standing.members} processes"
