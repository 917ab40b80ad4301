"""What the processes of the stages tell of themselves."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from imagetools.errors import ConfigError
from schemas.records import State
from streams.config import KafkaConfig
from streams.exit_codes import EXIT_REFUSED
from streams.kafka.follower import Follower
from streams.topics import STAGE_STATES
from streams.watching.states import StageStates, StateReporter, StateSender, read_states, trouble
from tests.support.bridging import eventually


def known(kafka: KafkaConfig) -> dict[str, tuple[State, str]]:
    return {one.process: (one.state, one.reason) for one in read_states(kafka)}


def test_a_process_is_known_from_its_start_to_its_end(kafka):
    kafka = replace(kafka, member="encoder-0")
    with StateReporter(kafka, "encoder", images_dir="/data") as reporter:
        eventually(lambda: known(kafka) == {"encoder-0": (State.STARTING, "")})
        reporter.report(State.WAITING, "the folder is away")
        eventually(lambda: known(kafka) == {"encoder-0": (State.WAITING, "the folder is away")})
        (state,) = trouble(read_states(kafka))
        assert (state.stage, state.images_dir) == ("encoder", "/data")
        reporter.report(State.RUNNING)
        eventually(lambda: not trouble(read_states(kafka)))
    eventually(lambda: not known(kafka))


def test_a_process_that_dies_says_why_and_its_next_start_is_no_recovery(kafka):
    kafka = replace(kafka, member="encoder-0")
    with pytest.raises(ConfigError), StateReporter(kafka, "encoder"):
        raise ConfigError("THRESHOLD is 7")
    eventually(lambda: known(kafka) == {"encoder-0": (State.DIED, "THRESHOLD is 7")})
    again = replace(kafka, restarts=1)
    with StateReporter(again, "encoder") as reporter:
        eventually(lambda: read_states(kafka)[0].restarts == 1)
        assert known(kafka) == {"encoder-0": (State.DIED, "THRESHOLD is 7")}
        reporter.report(State.RUNNING)
        eventually(lambda: known(kafka) == {"encoder-0": (State.RUNNING, "")})


def test_only_what_changes_is_news(kafka):
    follower = Follower(kafka, [STAGE_STATES], from_beginning=True)
    sender, states = StateSender(kafka), StageStates()
    news: list[Any] = []
    with StateReporter(kafka, "search") as reporter:
        for _ in range(3):
            sender.send(reporter.now)
        sender.close()
        reporter.report(State.WAITING, "a")
        reporter.report(State.WAITING, "a")
        reporter.report(State.WAITING, "b")

    def stopped() -> bool:
        news.extend(filter(None, map(states.take, follower.read(0.2))))
        return bool(news) and news[-1].state is State.STOPPED

    eventually(stopped)
    # a change that another one follows at once may be left out
    told = [(one.state, one.reason) for one in news]
    assert told[-1] == (State.STOPPED, "")
    assert len(told) == len(set(told)) <= 4
    follower.close()


def test_a_stage_that_refuses_to_run_says_so_on_the_topic_too(kafka, tmp_path):
    settings = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "TOPIC_PREFIX": kafka.prefix,
        "MEMBER_NAME": "encoder-0",
        "MODELS_NAME": "none.th",
        "HOME": str(tmp_path),
    }
    command = [sys.executable, "-m", "imagetools", "encoder"]
    run = subprocess.run(command, env=settings, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == EXIT_REFUSED
    state, reason = known(kafka)["encoder-0"]
    assert state is State.DIED
    assert "none.th" in reason
