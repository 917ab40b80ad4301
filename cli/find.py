"""`imagetools find`: announce every image of a folder, show every alert, and write a report at the end."""

import contextlib
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from confluent_kafka import KafkaException
from rich.console import Console
from rich.text import Text

from cli.announcing.announce import announce
from cli.decision_file import read_decisions
from cli.find_results import FindResults
from cli.output_checks import report_folder
from cli.report.find_report import FindJob
from cli.stop_signals import StopSignals
from cli.supervising.stage_bars import StageBars
from cli.supervising.stage_messages import StageMessages
from cli.supervising.stage_progress import KafkaDied, StageProgress
from cli.supervising.supervisor import Supervisor
from imagetools.errors import ImageToolsError, PrerequisiteMissing
from imagetools.fingerprint.encoder import model_file
from imagetools.folder import Tally
from imagetools.image_root import ImageRoot
from imagetools.paths import printable, shown
from imagetools.scratch import Scratch
from local_kafka.provider import Broker, provide_broker
from streams.config import Config, KafkaConfig
from streams.feature_store import open_store
from streams.kafka.admin import create_topics, delete_topics, reach
from streams.kafka.errors import reason_of
from streams.kafka.follower import Follower
from streams.kafka.pulse import Pulse
from streams.topics import CANDIDATES, DEAD_LETTERS, DUPLICATES, VERDICTS
from streams.watching.states import StateStream

POLL_S = 0.2


class NothingToDo(ImageToolsError):
    """The place holds no image."""


def find(
    place: Path | str,
    report: Path | None,
    *,
    bootstrap: str | None = None,
    environ: Mapping[str, str] = os.environ,
    encoders: int = 1,
    matchers: int = 1,
    decisions: Path | None = None,
    console: Console | None = None,
) -> FindResults:
    """Run the whole pipeline over a folder or a store, and write `report` unless it is None.

    bootstrap  the Kafka to use, with topics that are removed at the end; None: start one
    environ    settings of the stages, without those that name a live cluster's topics
    decisions  file of decisions that hold for this run
    NothingToDo if the place holds no image; other ImageToolsErrors say what is missing. Failed if a stage or this
    job's own Kafka cannot continue.
    """
    console = console or Console()
    config = check(environ, bootstrap)
    decided = read_decisions(decisions) if decisions is not None else []
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        passed = Tally()
        images = ImageRoot(place)
        paths = list(images.images(passed.add))
        if not paths:
            raise NothingToDo(f"{shown(images.name)}: no image in it" + (f"; {passed}" if passed.counts else ""))
        if report is not None:
            stack.enter_context(report_folder(report))
        job = FindJob(
            place, report, FindResults(len(paths)), passed, console,
            paths=paths, decisions=decided, matcher=config.matcher, keep_order=config.keep_order,
            stopped=lambda: signals.requested,
        )  # fmt: skip
        if away := len(job.decided.paths().difference(paths)):
            job.say(f"{away:,} paths of {shown(str(decisions))} are not among the images; their decisions wait")
        # until the groups are found, since they need the stages' features
        home = stack.enter_context(Scratch())
        job.open_store = partial(open_store, replace(config, features_dir=config.features_dir or home / "features"))
        try:
            _run(job, paths, signals, home, bootstrap, environ, encoders, matchers)
        except KeyboardInterrupt:
            job.finish("interrupted")
        except Exception as exc:
            if job.results.verdicts:
                job.finish(reason_of(exc))
            raise
        else:
            signals.defer("finishing the report")
            job.finish("interrupted" if signals.requested else "")
        if signals.requested:
            raise KeyboardInterrupt
    return job.results


def _run(
    job: FindJob,
    paths: Sequence[str],
    signals: StopSignals,
    home: Path,
    bootstrap: str | None,
    environ: Mapping[str, str],
    encoders: int,
    matchers: int,
) -> None:
    """Work until every image has its verdict or a signal arrives, then stop all that was started."""
    console = job.console
    with contextlib.ExitStack() as stack:
        kafka, own = stack.enter_context(_cluster(bootstrap, environ, console))
        create_topics(kafka)
        settings = _settings(environ, kafka, bootstrap, job.place, home)
        pulse = stack.enter_context(Pulse(kafka, lambda text: console.print(Text(text, style="yellow"))))
        progress = stack.enter_context(StageProgress(kafka, pulse, own))
        supervisor = Supervisor(settings, home / "logs", progress=progress.read)
        stack.callback(supervisor.stop)
        signals.before_exit.append(partial(_kill, supervisor))
        for stage, count in (("encoder", encoders), ("search", 1), ("matcher", matchers)):
            supervisor.start(stage, count)
        topics = (VERDICTS, DUPLICATES, CANDIDATES, DEAD_LETTERS)
        follower = Follower(kafka, topics, from_beginning=True, patient=True)
        stack.callback(follower.close)
        states = StateStream(kafka, from_beginning=True)
        stack.callback(states.close)
        announce(kafka, paths)
        signals.defer("stopping the stages" + (", then writing the report of what is done" if job.report else ""))
        try:
            _watch(job, progress, follower, states, supervisor, signals)
        except KafkaDied:
            # no batch can be finished without Kafka
            supervisor.stop_s = 0.0
            raise


def _kill(supervisor: Supervisor) -> None:
    for member in list(supervisor.members):
        if member.process is not None:
            member.process.kill()


def check(environ: Mapping[str, str], bootstrap: str | None = None) -> Config:
    """Check all settings before anything is started; ConfigError and ModelError name the wrong one."""
    config = Config.from_env(_kept(environ, bootstrap))
    model_file(config.models_name, config.models_dir)
    return config


@contextlib.contextmanager
def _cluster(
    bootstrap: str | None, environ: Mapping[str, str], console: Console
) -> Iterator[tuple[KafkaConfig, Broker | None]]:
    """Provide a Kafka: this job's own with its process, or the named one with a fresh prefix and None."""
    if bootstrap is None:
        with provide_broker(progress=lambda text: console.print(Text(text + " …"))) as own:
            yield reach(KafkaConfig(own.bootstrap)), own
        return
    prefix = f"find-{uuid.uuid4().hex[:8]}."
    named = Config.from_env(_kept(environ, bootstrap)).kafka
    kafka = reach(replace(named, prefix=prefix, member=None))
    try:
        yield kafka, None
    finally:
        try:
            delete_topics(reach(kafka))
        except (KafkaException, PrerequisiteMissing) as exc:
            text = f"the topics {prefix}* were not removed from {bootstrap}: {reason_of(exc)}"
            console.print(Text(text, style="yellow"))


def _kept(environ: Mapping[str, str], bootstrap: str | None) -> dict[str, str]:
    """Return the environment without the settings of a live cluster that this job does not use."""
    kept = {k: v for k, v in environ.items() if k not in ("EMBEDDINGS_TOPIC", "TOPIC_PREFIX", "MEMBER_NAME", "SHARD")}
    if bootstrap is not None:
        return kept | {"KAFKA_BOOTSTRAP_SERVERS": bootstrap}
    return {k: v for k, v in kept.items() if not (k.startswith("KAFKA_") or k == "SCHEMA_REGISTRY_URL")}


def _settings(
    environ: Mapping[str, str], kafka: KafkaConfig, bootstrap: str | None, place: Path | str, home: Path
) -> Mapping[str, str]:
    """Return the environment of the stages."""
    ours = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "TOPIC_PREFIX": kafka.prefix,
        "IMAGES_DIR": str(place.resolve() if isinstance(place, Path) else place),
        "INDEX_DIR": str(home / "index"),
        # the encoder hands features over to the matcher there
        "FEATURES_DIR": environ.get("FEATURES_DIR") or str(home / "features"),
        # a folder may hold any number of broken files in a row; each is in the report
        "DEAD_LETTER_LIMIT": "0",
        # a job is not watched like a service
        "METRICS_PORT": "",
        "LOG_FORMAT": "",
    }
    return {**_kept(environ, bootstrap), **ours}


def _watch(
    job: FindJob,
    progress: StageProgress,
    follower: Follower,
    states: StateStream,
    supervisor: Supervisor,
    signals: StopSignals,
) -> None:
    """Show alerts and news until every image has its verdict or a signal arrives."""
    results, console = job.results, job.console

    def say(text: str) -> None:
        console.print(Text(printable(text), style="yellow"), soft_wrap=True)

    shown_at = time.monotonic()
    messages = StageMessages()
    with StageBars(results, console) as bars:
        while not signals.requested:
            for seen in follower.read(POLL_S):
                job.take(seen)
            progress.check_kafka()
            for text in (*filter(None, map(messages.take, states.read())), *supervisor.restart_dead()):
                say(text)
            if time.monotonic() - shown_at > POLL_S or results.done:
                shown_at = time.monotonic()
                results.encoded = progress.read("encoder") or results.encoded
                bars.show()
            if results.done:
                break
        else:
            # each stage finishes its current batch
            supervisor.stop()
        # the alert and the verdict of one transaction are on two topics: read until both have arrived
        while rest := list(follower.read(POLL_S)):
            for seen in rest:
                job.take(seen)
