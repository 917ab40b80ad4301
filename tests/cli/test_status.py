"""What `status` and `watch` say of processes and dead letters."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner

from cli.main import main
from schemas.records import Duplicate, Duplicates, StageState, State
from streams.config import KafkaConfig
from streams.topics import DEAD_LETTERS, DUPLICATES
from streams.watching.states import StateReporter, StateSender, read_states
from tests.support.bridging import eventually
from tests.support.streaming import send, send_raw


def set_aside(kafka: KafkaConfig, path: str, count: int = 1) -> None:
    why = [("stage", "encoder"), ("error-type", "MissingImage"), ("error-message", f"{path}: there is no such file")]
    send_raw(kafka, DEAD_LETTERS, [(path.encode(), b"x")] * count, headers=why)


def words(kafka: KafkaConfig) -> list[str]:
    return ["--kafka-bootstrap-servers", kafka.bootstrap, "--topic-prefix", kafka.prefix]


def status(kafka: KafkaConfig) -> str:
    result = CliRunner().invoke(main, ["status", *words(kafka)])
    assert result.exit_code == 0, result.output
    return result.output


def test_status_says_what_runs_what_waits_and_what_was_set_aside(kafka):
    output = status(kafka)
    assert all(f"no {stage} runs" in output for stage in ("encoder", "search", "matcher", "grouping"))
    assert "dead letters: 0" in output
    set_aside(kafka, "old.jpg", 7)
    set_aside(kafka, "gone.jpg")
    with (
        StateReporter(replace(kafka, member="encoder-0"), "encoder") as encoder,
        StateReporter(replace(kafka, member="matcher-0", restarts=3), "matcher") as matcher,
        StateReporter(replace(kafka, member="search-0"), "search") as search,
    ):
        encoder.report(State.WAITING, "the folder of images /mnt is away")
        matcher.report(State.DIED, "THRESHOLD is '7'")
        search.report(State.STARTING, "replaying: 1,200 of 4,000")
        eventually(lambda: sum(bool(state.reason) for state in read_states(kafka)) == 3)
        output = status(kafka)
    assert "encoder-0 waits: the folder of images /mnt is away" in output
    assert "matcher-0 died (started again 3 times): THRESHOLD is '7'" in output
    assert "search-0 is starting: replaying: 1,200 of 4,000" in output
    assert "dead letters: 8" in output
    assert "gone.jpg  MissingImage: gone.jpg: there is no such file" in output
    assert output.count("old.jpg  ") == 4


def test_more_dead_letters_than_are_counted_are_said_to_be_more(kafka):
    set_aside(kafka, "a.jpg", 1200)
    assert "dead letters: more than 1,000" in status(kafka)


HEADERS = [
    ("trace", b"00-ab-01"),
    ("announced-partition", b"2"),
    ("raw", b"\xff"),
    ("empty", None),
    ("long", b"x" * 3000),
]
TOLD = {"sku": "4711", "note": "\x1b[2J"}


def watching(kafka: KafkaConfig, log: Path, *more: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "imagetools", "watch", "--from-beginning", *more, *words(kafka)]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as out, log.with_suffix(".err").open("wb") as err:
        return subprocess.Popen(command, env=environ, stdout=out, stderr=err)


def test_watch_tells_alerts_dead_letters_and_troubles_and_keeps_them_apart_in_json(kafka, tmp_path):
    send(
        kafka,
        DUPLICATES,
        [("b.jpg", Duplicates(1, "b.jpg", (Duplicate("a.jpg", 0.99),), metadata=TOLD))],
        headers=HEADERS,
    )
    set_aside(kafka, "gone.jpg")
    people, programs = watching(kafka, tmp_path / "people"), watching(kafka, tmp_path / "programs", "--json")
    try:
        eventually(lambda: (tmp_path / "people").read_text().count("\n") == 2)
        eventually(lambda: (tmp_path / "programs").read_text().count("\n") == 2)
        with StateReporter(replace(kafka, member="encoder-0"), "encoder") as encoder:
            encoder.report(State.WAITING, "the folder is away")
            for name in ("people.err", "programs.err"):
                eventually(
                    lambda n=name: "encoder-0 waits: the folder is away" in (tmp_path / n).read_text()  # type: ignore[misc]
                )
            encoder.report(State.RUNNING)
            eventually(lambda: "encoder-0 runs" in (tmp_path / "people.err").read_text())
        with closing(StateSender(kafka)) as sender:
            for state, reason, restarts in (
                (State.DIED, "SIGKILL", 0),
                (State.STARTING, "", 1),
                (State.RUNNING, "", 1),
                (State.DIED, "SIGKILL", 1),
            ):
                sender.send(StageState("bridge", "bridge-0", "host", state, reason, restarts=restarts))
        eventually(lambda: (tmp_path / "people.err").read_text().count("SIGKILL") == 2)
    finally:
        for process in (people, programs):
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
    troubles = (tmp_path / "people.err").read_text().splitlines()[1:]
    assert all(re.match(r"\d\d:\d\d:\d\d  ", line) for line in troubles)
    assert [line.split("  ", 1)[1] for line in troubles if "bridge-0" in line] == [
        "bridge-0 died: SIGKILL",
        "bridge-0 is starting (started again once)",
        "bridge-0 runs (started again once)",
        "bridge-0 died: SIGKILL",
    ]
    assert "gone.jpg  dead letter of encoder  MissingImage: gone.jpg: there" in (tmp_path / "people").read_text()
    lines = [json.loads(line) for line in (tmp_path / "programs").read_text().splitlines()]
    (alert,) = [line for line in lines if "candidate" in line]
    (other,) = [line for line in lines if "candidate" not in line]
    assert (alert["candidate"], alert["metadata"]) == ("b.jpg", TOLD)
    assert alert["headers"] == {
        "trace": "00-ab-01",
        "raw": "\N{REPLACEMENT CHARACTER}",
        "empty": "",
        "long": "x" * 1000,
    }
    assert "b.jpg  duplicates  a.jpg  0.99  sku=4711, note=\\x1b[2J" in (tmp_path / "people").read_text()
    assert list(other) == ["dead_letter"]
    assert other["dead_letter"]["relative_path"] == "gone.jpg"
