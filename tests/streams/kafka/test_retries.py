"""A cluster that has just started answers about topics before it answers about groups."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from local_kafka.broker import LocalKafka
from streams.config import KafkaConfig
from streams.kafka.admin import reach
from streams.kafka.authorization import require_rights
from streams.kafka.retries import until_ready
from streams.kafka.topic_facts import group_names


@pytest.fixture
def broker() -> Iterator[LocalKafka]:
    # it cannot make the topic of groups by itself
    with LocalKafka.start(properties={"offsets.topic.replication.factor": "3"}) as started:
        yield started


def test_groups_that_are_ready_later_than_topics_are_waited_for(broker: LocalKafka) -> None:
    kafka = reach(KafkaConfig(broker.bootstrap))
    with pytest.raises(KafkaException) as failure:
        require_rights(kafka, "topics create")
    error = failure.value.args[0]
    assert error.code() == KafkaError.COORDINATOR_NOT_AVAILABLE
    assert "offsets.topic.replication.factor" in error.str()

    with ThreadPoolExecutor() as threads:
        asking = threads.submit(until_ready, lambda: require_rights(kafka, "topics create"))
        # longer than one question waits
        time.sleep(6)
        assert not asking.done()
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.create_topics([NewTopic("__consumer_offsets", 4, config={"cleanup.policy": "compact"})])[
            "__consumer_offsets"
        ].result()
        asking.result()


def test_names_of_groups_are_all_of_them_or_an_error(broker: LocalKafka) -> None:
    kafka = reach(KafkaConfig(broker.bootstrap))
    assert group_names(kafka) == set()
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        with pytest.raises(KafkaException):
            group_names(kafka)
    finally:
        os.kill(broker.pid, signal.SIGCONT)
