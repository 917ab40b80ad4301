"""A call of the Kafka client that never comes back."""

import threading

import pytest

from local_kafka.ports import free_ports
from streams.config import KafkaConfig
from streams.kafka import stuck_calls
from streams.kafka.stuck_calls import StuckCalls
from tests.support.bridging import eventually


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_S", "SUSPECT_S", "ANSWER_S", "STUCK_S"):
        monkeypatch.setattr(stuck_calls, name, 0.2)


def test_it_ends_the_process_where_kafka_answers_others(kafka):
    ended: list[str] = []
    watch = StuckCalls(kafka, ended.append)
    with watch:
        eventually(lambda: ended)
    watch.close()
    assert len(ended) == 1
    assert "has not come back" in ended[0]


def test_a_call_that_comes_back_ends_nothing(kafka):
    ended: list[str] = []
    watch = StuckCalls(kafka, ended.append)
    with watch:
        pass
    threading.Event().wait(1.5)
    watch.close()
    assert not ended


def test_while_kafka_is_away_it_is_waited_for():
    ended: list[str] = []
    watch = StuckCalls(KafkaConfig(f"127.0.0.1:{free_ports(1)[0]}"), ended.append)
    with watch:
        threading.Event().wait(3)
        assert not ended
    watch.close()
