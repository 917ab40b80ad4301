"""Stages that die: how often they are started again, and what is said of it."""

import os
import shutil
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from cli.supervising.supervisor import StageFailed, StageRefused, Supervisor
from imagetools.process_logs import MAX_COPIES, exit_reason, keep_copy
from schemas.records import StageState, State
from tests.support.processes import ENVIRON, broken, start
from tests.support.streaming import write_groups


def tend_until(supervisor: Supervisor, deaths: int, deadline_s: float = 60.0) -> list[str]:
    news: list[str] = []
    deadline = time.monotonic() + deadline_s
    while len(news) < deaths:
        assert time.monotonic() < deadline, news
        news += supervisor.restart_dead()
        time.sleep(0.02)
    return news


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """In which the matcher dies at its start."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return {**ENVIRON, **broken(tmp_path / "broken", "matcher")}


def test_the_reason_of_an_end_is_also_found_in_a_log_in_json(tmp_path):
    log = tmp_path / "log"
    words = "import sys, logging, imagetools.logs as logs; logs.configure(json_lines=True); "
    for code, reason in (
        ("logging.info('at work'); raise RuntimeError('no\\ndisk')", r"RuntimeError: no\ndisk"),
        ("logging.error('the topic is gone'); logging.info('stopped')", "the topic is gone"),
    ):
        with log.open("wb") as out:
            subprocess.run([sys.executable, "-c", words + code], stderr=out, check=False, env=ENVIRON)
        assert exit_reason(log) == reason


def test_a_stage_that_dies_without_progress_is_given_up_with_its_last_words_and_a_log_that_stays(environ, tmp_path):
    supervisor = Supervisor(environ, tmp_path / "logs", progress=lambda stage: 7)
    supervisor.start("matcher")
    try:
        news = tend_until(supervisor, 2)
        with pytest.raises(StageFailed) as caught:
            tend_until(supervisor, 1)
    finally:
        supervisor.stop()
    assert all("ModuleNotFoundError: No module named 'packaging'" in line for line in news)
    shutil.rmtree(tmp_path / "logs")
    message, _, path = str(caught.value).partition("its log: ")
    assert "matcher-0 died 3 times in a row" in message
    assert "ModuleNotFoundError: No module named 'packaging'" in message
    assert "Traceback" in Path(path).read_text("utf-8")


def test_with_progress_between_its_deaths_or_where_none_is_known_it_is_started_again_and_again(environ, tmp_path):
    reached, told = count(), list[StageState]()
    supervisor = Supervisor(
        environ, tmp_path / "logs", progress=lambda stage: next(reached) if len(told) < 3 else None, tell=told.append
    )
    supervisor.start("matcher")
    try:
        tend_until(supervisor, 4)
    finally:
        supervisor.stop()
    assert [(one.process, one.state, one.restarts) for one in told] == [
        ("matcher-0", State.DIED, number) for number in range(4)
    ]
    assert all("No module named 'packaging'" in one.reason for one in told)
    log = (tmp_path / "logs" / "matcher-0.log").read_text("utf-8")
    assert [line for line in log.splitlines() if line.startswith("restarts")] == [f"restarts {n}" for n in range(4)]


def test_a_stage_that_refuses_is_not_started_again(tmp_path):
    supervisor = Supervisor({**ENVIRON, "THRESHOLD": "7"}, tmp_path / "logs")
    supervisor.start("matcher")
    try:
        with pytest.raises(StageRefused, match=r"matcher-0 stopped: THRESHOLD is '7': a number from 0 to 1 is needed"):
            tend_until(supervisor, 1)
    finally:
        supervisor.stop()


def test_find_ends_where_a_stage_cannot_work(tmp_path):
    write_groups(tmp_path / "images", 1)
    environ = broken(tmp_path / "broken", "encoder") | {"XDG_STATE_HOME": str(tmp_path / "state")}
    text = start("find", tmp_path / "images", log=tmp_path / "log", environ=environ).ends(1, 60)
    last = " ".join(text.split())
    assert "encoder-0 died 3 times in a row" in last
    assert "ModuleNotFoundError: No module named 'packaging'" in last
    assert "Traceback" not in last
    (log,) = (tmp_path / "state" / "imagetools" / "log").iterdir()
    assert str(log) in last
    assert "Traceback" in log.read_text("utf-8")


STAMP = "2026-11-28 04:13:14,123"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", "it wrote no log"),
        ("one\ntwo\n", "two"),
        (f"{STAMP} ERROR THRESHOLD is 7\n%3|1795|FAIL|rdkafka#consumer-7| refused\n", "THRESHOLD is 7"),
        (f"{STAMP} INFO a\n{STAMP} CRITICAL stuck\n{STAMP} WARNING b\n", "stuck"),
        ("Error: DIMENSION is 'x'\nnoise\n", "DIMENSION is 'x'"),
        (
            'Traceback (most recent call last):\n  File "a", line 1\n    f()\nOSError: first\n\nDuring handling …\n\n'
            'Traceback (most recent call last):\n  File "b", line 2\n    g()\nValueError: second\nnoise at exit\n',
            "ValueError: second",
        ),
        (
            "2026-11-28T04:25:02.726 [main] ERROR kafka.Kafka$ - Exiting Kafka due to fatal exception\n"
            "java.io.IOException: No space left on device\n\tat java.base/sun.nio.ch\n",
            "java.io.IOException: No space left on device",
        ),
        ('Exception in thread "main" a.b.ConfigException: no\n\tat x\n', "a.b.ConfigException: no"),
    ],
)
def test_last_words_are_the_reason_and_not_the_noise_after_it(tmp_path, log, words):
    (tmp_path / "log").write_text(log, "utf-8")
    assert exit_reason(tmp_path / "log") == words


def test_last_words_are_those_of_the_newest_process(tmp_path):
    before = "Traceback (most recent call last):\nValueError: of the one before\n"
    (tmp_path / "log").write_text(before + "of this one\n", "utf-8")
    assert exit_reason(tmp_path / "log", len(before)) == "of this one"
    assert "cannot be read: No such file" in exit_reason(tmp_path / "none")


def test_of_the_kept_logs_only_the_newest_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "a.log").write_text("text")
    folder = keep_copy(tmp_path / "a.log").parent
    for number in range(2 * MAX_COPIES):
        (folder / f"20200101-{number:06}-old.log").touch()
    assert keep_copy(tmp_path / "a.log").read_text() == "text"
    assert len(os.listdir(folder)) == MAX_COPIES
