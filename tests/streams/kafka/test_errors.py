"""Kafka's errors: what people read of them, and how long one counts."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from imagetools.errors import PrerequisiteMissing
from streams.config import KafkaConfig
from streams.kafka.errors import ErrorLog, describe, no_offsets, reason_of, with_remedy

KAFKA = KafkaConfig("broker:9092", prefix="team.")


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN])
def test_a_cluster_that_does_not_answer_has_one_wording_and_a_remedy(code: int) -> None:
    assert describe(KAFKA, KafkaError(code)) == "no Kafka answers at broker:9092"
    remedy = with_remedy(KAFKA, KafkaException(KafkaError(code)))
    assert isinstance(remedy, PrerequisiteMissing)
    assert str(remedy).startswith("no Kafka answers at broker:9092: `imagetools up`")


def test_missing_topics_name_the_prefix_and_the_command() -> None:
    error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    said = describe(KAFKA, error)
    assert said == "the topics are not on broker:9092 (prefix 'team.'): run `imagetools topics create`"
    assert str(with_remedy(KAFKA, KafkaException(error))) == said


def test_an_error_without_a_remedy_stays_what_it_is() -> None:
    exc = KafkaException(KafkaError(KafkaError._FATAL, "stopped"))
    assert with_remedy(KAFKA, exc) is exc
    assert describe(KAFKA, exc.args[0]) == reason_of(exc) == "Kafka: stopped"


def test_an_answer_that_did_not_come_is_said_in_words() -> None:
    assert reason_of(KafkaException(KafkaError(KafkaError._TIMED_OUT))) == "Kafka did not answer in time"


def test_a_group_without_offsets_says_where_to_go_on() -> None:
    assert "--from earliest" in no_offsets(KAFKA, "encoder", "images.new")
    second = KafkaConfig("broker:9092", embeddings="embeddings.2")
    assert "reencode --switch" in no_offsets(second, "search", "embeddings.2")


def test_an_error_is_logged_once_while_it_lasts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    noted = ErrorLog("encoder")
    for moment in (1.0, 10.0, 20.0):
        now[0] = moment
        noted.note("no leader")
    assert noted.current == "no leader"
    assert caplog.text.count("no leader") == 1
    now[0] = 36.0
    assert not noted.current
    noted.note("no leader")
    assert caplog.text.count("no leader") == 2
