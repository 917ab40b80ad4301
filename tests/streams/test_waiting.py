"""Who waits says what for: folders and brokers that go away and come back, in the middle of a job."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka.admin import AdminClient

from cli.supervising.stage_messages import READY, StageMessages
from local_kafka.broker import LocalKafka
from schemas.records import StageState, State
from streams.config import KafkaConfig
from streams.kafka.admin import create_topics
from streams.kafka.pulse import Pulse
from tests.cli.test_whole import pairs_in
from tests.support.bridging import eventually
from tests.support.processes import kafka_of, start, without_overriding_rights
from tests.support.streaming import group_pairs, write_groups

SOON_S = 5.0


@contextmanager
def frozen(kafka: LocalKafka) -> Iterator[None]:
    """The broker takes connections and answers nobody."""
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(kafka.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def own() -> Iterator[LocalKafka]:
    """A broker that a test may freeze."""
    with LocalKafka.start() as kafka:
        create_topics(KafkaConfig(kafka.bootstrap))
        yield kafka


def test_find_watch_and_produce_say_within_seconds_what_they_wait_for_and_go_on(own, tmp_path):
    images = tmp_path / "images"
    write_groups(images, 60)
    (images / "closed.png").write_bytes((images / "0.png").read_bytes())
    (images / "closed.png").chmod(0)
    environ = {"KAFKA_BOOTSTRAP_SERVERS": own.bootstrap, "IMAGES_DIR": str(images)}
    watch = start("watch", log=tmp_path / "watch", environ=environ)
    produce = start("produce", "-", log=tmp_path / "produce", environ=environ, stdin=subprocess.PIPE)
    find = start(
        "find", images, "--report", tmp_path / "report", "--broker", own.bootstrap,
        log=tmp_path / "find", preexec=without_overriding_rights,
    )  # fmt: skip
    find.said("duplicates")
    watch.said("watching")

    images.rename(tmp_path / "away")
    assert find.said(f"waits: the folder of images {images}: No such file or directory") < SOON_S
    (tmp_path / "away").rename(images)
    find.said("goes on")

    with frozen(own):
        assert produce.process.stdin is not None
        produce.process.stdin.write(b"0.png\n")
        produce.process.stdin.close()
        for one in (find, watch, produce):
            assert one.said(f"no Kafka answers at {own.bootstrap}: waiting for it") < SOON_S
    for one in (find, watch):
        one.said(f"Kafka at {own.bootstrap} answers again")
    assert "1 image announced" in produce.ends(0)

    text = find.ends(0)
    assert "Traceback" not in text
    pairs = pairs_in(tmp_path / "report" / "alerts.jsonl")
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == group_pairs(60)
    (letter,) = (tmp_path / "report" / "dead-letters.jsonl").read_text("utf-8").splitlines()
    assert json.loads(letter)["relative_path"] == "closed.png"
    assert json.loads(letter)["error_type"] == "UnreadableImage"
    watch.process.send_signal(signal.SIGINT)
    watch.ends(0)


def test_a_broker_that_does_not_answer_ends_status_and_reencode_at_once(own, tmp_path):
    environ = {"KAFKA_BOOTSTRAP_SERVERS": own.bootstrap}
    with frozen(own):
        running = [
            start(*words, log=tmp_path / words[0], environ=environ)
            for words in (("status",), ("reencode", "--to", "embeddings.2"), ("produce", str(tmp_path)))
        ]
        for one in running:
            text = one.ends(2, 20)
            assert f"no Kafka answers at {own.bootstrap}" in text
            assert "Traceback" not in text


def test_find_ends_with_its_own_kafka_and_says_where_the_log_is(tmp_path):
    write_groups(tmp_path / "images", 30)
    environ = {"XDG_STATE_HOME": str(tmp_path / "state")}
    find = start("find", tmp_path / "images", log=tmp_path / "log", environ=environ)
    find.said("duplicates")
    kafka_of(find).kill()
    text = " ".join(find.ends(1, 15).split())
    assert "Kafka died (SIGKILL)" in text
    (log,) = (tmp_path / "state" / "imagetools" / "log").iterdir()
    assert str(log) in text
    assert "Traceback" not in text


def test_a_pulse_says_once_that_it_stops_and_once_that_it_goes_on(own):
    said: list[str] = []
    kafka = KafkaConfig(own.bootstrap)
    with Pulse(kafka, said.append) as pulse:
        with frozen(own):
            eventually(lambda: pulse.away, 15)
            eventually(lambda: len(said) == 1, 15)
        eventually(lambda: not pulse.away, 15)
    assert said == [f"no Kafka answers at {own.bootstrap}: waiting for it", f"Kafka at {own.bootstrap} answers again"]
    assert AdminClient(kafka.client()).list_topics(timeout=10).topics


def told(*states: tuple[State, str]) -> list[str | None]:
    news = StageMessages()
    return [news.take(StageState("search", "search-0", "here", state, reason)) for state, reason in states]


def test_each_reason_is_said_once_and_its_end_too():
    waiting, running = (State.WAITING, "the folder is away"), (State.RUNNING, "")
    assert told((State.STARTING, ""), running, waiting, waiting, (State.WAITING, "no topic"), running, running) == [
        None, None, "search-0 waits: the folder is away", None, "search-0 waits: no topic", "search-0 goes on", None,
    ]  # fmt: skip


def test_one_that_died_while_it_waited_goes_on_when_it_runs_again():
    waiting = (State.WAITING, "the folder is away")
    assert told(waiting, (State.DIED, "SIGKILL"), (State.STARTING, ""), (State.RUNNING, ""))[1:] == [
        None, None, "search-0 goes on",
    ]  # fmt: skip


def test_the_last_process_that_was_awaited_makes_the_service_ready():
    news = StageMessages({"search-0", "matcher-0"})
    states = [("search-0", State.STARTING), ("search-0", State.RUNNING), ("matcher-0", State.WAITING),
              ("search-0", State.RUNNING), ("matcher-0", State.RUNNING), ("matcher-0", State.RUNNING)]  # fmt: skip
    said = [news.take(StageState("any", name, "here", state, "why")) for name, state in states]
    assert said == [None, None, "matcher-0 waits: why", None, READY, None]


def test_a_long_replay_says_how_far_it_is_now_and_then(monkeypatch):
    now = iter([0.0, 1.0, 6.0, 7.0, 12.0, 13.0])
    monkeypatch.setattr("cli.supervising.stage_messages.time.monotonic", lambda: next(now))
    steps = [(State.STARTING, f"replaying, {percent} %") for percent in (0, 1, 40, 45, 80)]
    line = "search-0 brings its index to where it was: replaying, {} %"
    assert told(*steps) == [None, None, line.format(40), None, line.format(80)]
