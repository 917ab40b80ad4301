"""Settings of the clients that more than one place relies on."""

from typing import Any

import pytest

from streams.config import KafkaConfig
from streams.kafka import clients

CLASSIC = {
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 2000,
}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The settings of each client that is made."""
    settings: list[dict[str, Any]] = []
    for kind in ("Consumer", "Producer"):
        monkeypatch.setattr(clients, kind, settings.append)
    return settings


def test_both_groups_of_a_stage_share_the_classic_settings(made: list[dict[str, Any]]) -> None:
    clients.stage_consumer(KafkaConfig(), "encoder")
    clients.requests_consumer(KafkaConfig(), "encoder", shared=True)
    for settings in made:
        assert settings | CLASSIC == settings
    assert [settings["group.id"] for settings in made] == ["encoder", "encoder.requests"]


def test_a_users_session_timeout_wins_and_the_new_protocol_has_none(made: list[dict[str, Any]]) -> None:
    clients.stage_consumer(KafkaConfig(settings={"session.timeout.ms": "9000"}), "encoder")
    clients.stage_consumer(KafkaConfig(group_protocol="consumer"), "encoder")
    assert made[0]["session.timeout.ms"] == "9000"
    assert not CLASSIC.keys() & made[1].keys()


def test_no_user_setting_undoes_exactly_once(made: list[dict[str, Any]]) -> None:
    kafka = KafkaConfig(settings={"enable.auto.commit": "true", "isolation.level": "read_uncommitted"})
    clients.stage_consumer(kafka, "encoder")
    assert (made[0]["enable.auto.commit"], made[0]["isolation.level"]) == (False, "read_committed")
    assert made[0]["auto.offset.reset"] == "error"


def test_every_producer_has_the_partitioner_of_java(made: list[dict[str, Any]]) -> None:
    clients.announcing_producer(KafkaConfig())
    clients.prompt_producer(KafkaConfig())
    clients.states_producer(KafkaConfig(), 10)
    clients.transactional_producer(KafkaConfig(), "encoder", made.append)  # type: ignore[arg-type]
    assert {settings["partitioner"] for settings in made} == {"murmur2_random"}
    assert len(made) == 4
