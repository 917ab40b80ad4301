"""Why a cluster does not answer, as far as its clients know."""

import os

import pytest

from imagetools.errors import PrerequisiteMissing
from local_kafka.ports import free_ports
from streams.config import KafkaConfig
from streams.kafka.admin import reach
from streams.kafka.probe import ClusterProbe
from tests.support.processes import start


def refused(kafka: KafkaConfig) -> str:
    with pytest.raises(PrerequisiteMissing) as refusal:
        reach(kafka)
    return str(refusal.value)


def test_a_cluster_that_answers_says_who_it_is(kafka):
    probe = ClusterProbe(kafka, "test")
    assert len(probe.ask(10).brokers) == 1
    assert probe.reason() == ""
    probe.close()
    assert reach(kafka) is kafka


def test_a_name_that_has_no_address_is_said():
    assert "no Kafka answers at nowhere.invalid:9092 (Failed to resolve" in refused(KafkaConfig("nowhere.invalid:9092"))


def test_where_nobody_listens_the_remedy_is_a_kafka():
    (port,) = free_ports(1)
    said = refused(KafkaConfig(f"127.0.0.1:{port}"))
    assert said.startswith(f"no Kafka answers at 127.0.0.1:{port}: `imagetools up`")


def test_a_broker_without_tls_is_no_broker_for_who_asks_with_it(kafka):
    said = refused(KafkaConfig(kafka.bootstrap, settings={"security.protocol": "ssl"}))
    assert "connecting to a PLAINTEXT broker listener?)" in said
    assert said.endswith("KAFKA_BOOTSTRAP_SERVERS and the other KAFKA_ variables say how it is reached")


def test_a_broker_without_passwords_is_no_broker_for_who_has_one(kafka):
    settings = {"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN"}
    said = refused(KafkaConfig(kafka.bootstrap, settings=settings | {"sasl.username": "a", "sasl.password": "b"}))
    assert "(SASL PLAIN mechanism handshake failed: " in said


def test_a_stage_without_kafka_says_so_once_and_nothing_else(tmp_path):
    (port,) = free_ports(1)
    environ = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}", "INDEX_DIR": str(tmp_path / "index")}
    stage = start("search", log=tmp_path / "log", environ=os.environ | environ)
    stage.said(f"search: no Kafka answers at 127.0.0.1:{port}")
    stage.said("the state of this process cannot be sent")
    stage.process.terminate()
    stage.process.wait(30)
    lines = stage.text.splitlines()
    assert sum("no Kafka answers" in line for line in lines) == 1
    assert len(lines) < 8, stage.text
    # librdkafka's own log
    assert "%3|" not in stage.text
