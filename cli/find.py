"""The main job on a folder: every image announced, every alert shown, a report at the end."""

import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from confluent_kafka import KafkaException
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from cli.alerts import as_json, as_line, as_text
from cli.announce import announce
from cli.offsets import KafkaDied, Offsets
from cli.report import write_report
from cli.supervisor import Supervisor
from cli.waiting import StageNews
from imagetools.decode import ImageRoot, find_images
from imagetools.errors import ImageToolsError, PrerequisiteMissing
from imagetools.fingerprint import model_file
from schemas.records import Duplicates, Outcome, StageState, Verdict
from streams.config import Config, KafkaConfig
from streams.follow import Follower, Seen, dead_letter, reach
from streams.local_kafka import Broker, broker
from streams.pulse import Pulse
from streams.states import reason_of
from streams.topics import CANDIDATES, DEAD_LETTERS, DUPLICATES, STAGE_STATES, VERDICTS, create, delete

STAGES = ("encoder", "search", "matcher")
POLL_S = 0.2
PLAIN_EVERY_S = 10.0
"""Where no terminal shows bars, a line of progress comes this often."""


class NothingToDo(ImageToolsError):
    """There is no image to look at."""


@dataclass
class Findings:
    """What the job has seen so far.

    verdicts  by path; one for each announced image in the end
    """

    announced: int
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    alerts: list[Duplicates] = field(default_factory=list)
    dead_letters: list[dict[str, str]] = field(default_factory=list)
    encoded: int = 0
    searched: int = 0
    dead_before_search: int = 0

    def take(self, seen: Seen) -> None:
        """Count one message."""
        if seen.topic is VERDICTS:
            self.verdicts[seen.record.relative_path] = seen.record
        elif seen.topic is DUPLICATES:
            self.alerts.append(seen.record)
        elif seen.topic is CANDIDATES:
            self.searched += 1
        elif seen.topic is DEAD_LETTERS:
            letter = dead_letter(seen.message)
            self.dead_letters.append(letter)
            self.dead_before_search += letter["stage"] in ("encoder", "search")

    @property
    def done(self) -> bool:
        """Every announced image has its verdict."""
        return len(self.verdicts) >= self.announced

    @property
    def pairs(self) -> int:
        """Duplicate pairs reported."""
        return sum(len(alert.duplicated) for alert in self.alerts)


def find(
    folder: Path,
    report: Path | None,
    *,
    bootstrap: str | None = None,
    environ: Mapping[str, str] = os.environ,
    encoders: int = 1,
    matchers: int = 1,
    console: Console | None = None,
) -> Findings:
    """Run the whole pipeline over `folder` and write `report`, where one is wanted.

    bootstrap  a Kafka to use, under a fresh prefix that is removed afterwards; None: one of its own
    environ    settings of the stages; what would name a live cluster's topics is not taken from it
    NothingToDo where the folder holds no image; other ImageToolsErrors say what is missing. Failed where a stage or
    this job's own Kafka cannot go on.
    """
    console = console or Console()
    check(environ, bootstrap)
    images = ImageRoot(folder)
    paths = list(find_images(folder))
    if not paths:
        raise NothingToDo(f"{folder}: no image in it")
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imagetools-", ignore_cleanup_errors=True)))
        kafka, own = stack.enter_context(_cluster(bootstrap, environ, console))
        create(kafka)
        settings = _settings(environ, kafka, bootstrap, folder, home)
        pulse = stack.enter_context(Pulse(kafka, lambda text: console.print(Text(text, style="yellow"))))
        offsets = stack.enter_context(Offsets(kafka, pulse, own))
        supervisor = Supervisor(settings, home / "logs", progress=offsets.read)
        stack.callback(supervisor.stop)
        for stage, count in (("encoder", encoders), ("search", 1), ("matcher", matchers)):
            supervisor.start(stage, count)
        topics = (VERDICTS, DUPLICATES, CANDIDATES, DEAD_LETTERS, STAGE_STATES)
        follower = Follower(kafka, topics, from_beginning=True, patient=True)
        stack.callback(follower.close)
        announce(kafka, paths)
        findings = Findings(len(paths))
        try:
            _watch(findings, offsets, follower, supervisor, console)
        except KafkaDied:
            # no batch can be finished any more
            supervisor.stop_s = 0.0
            raise
    took = time.monotonic() - began
    console.print(Text(_summary(findings, took)))
    if report is not None:
        _write(report, findings, images, folder, took)
        console.print(Text(f"Report: {report / 'report.html'}"))
    return findings


def check(environ: Mapping[str, str], bootstrap: str | None = None) -> None:
    """Look at all settings before anything is started; ConfigError and ModelError name the one that is wrong."""
    config = Config.from_env(_kept(environ, bootstrap))
    model_file(config.models_name, config.models_dir)


@contextlib.contextmanager
def _cluster(
    bootstrap: str | None, environ: Mapping[str, str], console: Console
) -> Iterator[tuple[KafkaConfig, Broker | None]]:
    """A Kafka to work on, and the process behind it where it is this job's own; otherwise under a fresh prefix."""
    if bootstrap is None:
        with broker(progress=lambda text: console.print(Text(text + " …"))) as own:
            yield reach(KafkaConfig(own.bootstrap)), own
        return
    prefix = f"find-{uuid.uuid4().hex[:8]}."
    named = Config.from_env(_kept(environ, bootstrap)).kafka
    kafka = reach(replace(named, prefix=prefix, member=None))
    try:
        yield kafka, None
    finally:
        try:
            delete(reach(kafka))
        except (KafkaException, PrerequisiteMissing) as exc:
            text = f"the topics {prefix}* were not removed from {bootstrap}: {reason_of(exc)}"
            console.print(Text(text, style="yellow"))


def _kept(environ: Mapping[str, str], bootstrap: str | None) -> dict[str, str]:
    """The settings that this job takes from its surroundings: nothing of a live cluster that it does not work on."""
    kept = {k: v for k, v in environ.items() if k not in ("EMBEDDINGS_TOPIC", "TOPIC_PREFIX", "MEMBER_NAME")}
    if bootstrap is not None:
        return kept | {"KAFKA_BOOTSTRAP_SERVERS": bootstrap}
    return {k: v for k, v in kept.items() if not (k.startswith("KAFKA_") or k == "SCHEMA_REGISTRY_URL")}


def _settings(
    environ: Mapping[str, str], kafka: KafkaConfig, bootstrap: str | None, folder: Path, home: Path
) -> Mapping[str, str]:
    """What the stages run with."""
    ours = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "TOPIC_PREFIX": kafka.prefix,
        "IMAGES_DIR": str(folder.resolve()),
        "INDEX_DIR": str(home / "index"),
        # a folder may hold any number of broken files in a row; each is in the report
        "DEAD_LETTER_LIMIT": "0",
    }
    return {**_kept(environ, bootstrap), **ours}


def _watch(findings: Findings, offsets: Offsets, follower: Follower, supervisor: Supervisor, console: Console) -> None:
    """Show what comes until every image has its verdict."""
    shown = time.monotonic()
    stages = StageNews()
    with _Bars(findings, console) as bars:
        while True:
            for seen in follower.read(POLL_S):
                findings.take(seen)
                if isinstance(seen.record, Duplicates):
                    for line in as_text(seen.record):
                        console.print(Text(line), soft_wrap=True)
                elif isinstance(seen.record, StageState) and (news := stages.take(seen.record)):
                    console.print(Text(news, style="yellow"), soft_wrap=True)
            offsets.look_after_kafka()
            for news in supervisor.tend():
                console.print(Text(news, style="yellow"), soft_wrap=True)
            if time.monotonic() - shown > POLL_S or findings.done:
                shown = time.monotonic()
                findings.encoded = offsets.read("encoder") or findings.encoded
                bars.show()
            if findings.done:
                break
        # alerts and verdicts of one transaction are on two topics: take what is still on its way
        while rest := list(follower.read(POLL_S)):
            for seen in rest:
                findings.take(seen)
                if isinstance(seen.record, Duplicates):
                    for line in as_text(seen.record):
                        console.print(Text(line), soft_wrap=True)


class _Bars:
    """A bar for each stage, with rate and time left; a plain line now and then where there is no terminal."""

    def __init__(self, findings: Findings, console: Console) -> None:
        self._findings = findings
        self._console = console
        self._plain_at = time.monotonic()
        self._began = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description:8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>9}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "_Bars":
        for stage in STAGES:
            self._tasks[stage] = self._progress.add_task(stage, total=self._findings.announced, rate="")
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self) -> None:
        """Draw where things stand."""
        findings = self._findings
        dead = findings.dead_before_search
        done = {
            "encoder": findings.encoded,
            "search": findings.searched + dead,
            "matcher": len(findings.verdicts),
        }
        elapsed = max(time.monotonic() - self._began, 1e-3)
        for stage, count in done.items():
            self._progress.update(self._tasks[stage], completed=count, rate=f"{count / elapsed:.0f}/s")
        if not self._console.is_terminal and time.monotonic() - self._plain_at > PLAIN_EVERY_S:
            self._plain_at = time.monotonic()
            text = ", ".join(f"{stage} {count:,}" for stage, count in done.items())
            self._console.print(Text(f"of {findings.announced:,} images: {text}"))


def _summary(findings: Findings, took: float) -> str:
    outcomes = [verdict.outcome for verdict in findings.verdicts.values()]
    return (
        f"{findings.announced:,} images in {took:.1f} s: {outcomes.count(Outcome.DUPLICATE):,} duplicate earlier ones "
        f"({findings.pairs:,} pairs), {outcomes.count(Outcome.CLEAR):,} clear, "
        f"{outcomes.count(Outcome.DEAD_LETTER):,} could not be read"
    )


def _write(report: Path, findings: Findings, images: ImageRoot, folder: Path, took: float) -> None:
    report.mkdir(parents=True, exist_ok=True)
    alerts = sorted(findings.alerts, key=lambda alert: alert.candidate)
    (report / "alerts.jsonl").write_bytes(b"".join(as_line(alert) for alert in alerts))
    letters = (msgspec.json.encode(letter) + b"\n" for letter in findings.dead_letters)
    (report / "dead-letters.jsonl").write_bytes(b"".join(letters))
    stats: dict[str, Any] = {
        "images": findings.announced,
        "pairs": findings.pairs,
        "dead letters": len(findings.dead_letters),
        "seconds": round(took, 1),
    }
    write_report(report, [as_json(alert) for alert in alerts], images, title=f"Duplicates in {folder}", stats=stats)
