"""What the probes of a stage's process say."""

from typing import Any

import pytest

from schemas.records import State
from streams.watching.health import Probe, StageHealth


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> StageHealth:
    return StageHealth(300, clock)


def test_a_process_that_starts_is_alive_and_not_ready(health):
    assert health.alive() == Probe(True, "alive")
    assert health.ready() == Probe(False, "starting")
    health.state(State.STARTING, "replaying, 40 %")
    assert health.ready() == Probe(False, "starting: replaying, 40 %")


def running(health: StageHealth, owned: int = 6, **more: Any) -> StageHealth:
    health.state(State.RUNNING)
    health.turned(owned, member=True, **more)
    return health


def test_a_member_of_the_group_with_partitions_is_ready_and_one_without_stands_by(health):
    assert running(health).ready() == Probe(True, "ready")
    assert running(health, owned=0).ready() == Probe(True, "standing by: other processes own all partitions")


def test_what_waits_or_has_lost_its_group_is_not_ready(health):
    running(health).state(State.WAITING, "the folder is away")
    assert health.ready() == Probe(False, "waiting: the folder is away")
    assert health.waiting
    running(health).turned(6, member=False)
    assert health.ready() == Probe(False, "no member of the consumer group at the moment")


def test_after_an_aborted_transaction_a_commit_or_a_rebalance_makes_it_ready_again(health):
    running(health).committing(False)
    assert health.ready() == Probe(False, "the last transaction was aborted")
    health.committing(True)
    assert health.ready().good


def test_a_loop_that_stands_still_is_neither_alive_nor_ready(health, clock):
    running(health)
    clock.now = 300
    assert health.alive().good
    assert health.ready().good
    clock.now = 301
    assert health.alive() == Probe(False, "the loop has not turned for 301 s")
    assert health.ready() == health.alive()
    health.turned(6, member=True)
    assert health.ready().good
