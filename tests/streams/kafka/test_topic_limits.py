"""Topics of earlier versions take the messages of this one."""

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from streams.config import KafkaConfig
from streams.kafka.topic_limits import LIMIT, raise_limits
from streams.topics import GROUPING_STATE, GROUPS, Topic


def limit_of(kafka: KafkaConfig, topic: Topic) -> int:
    resource = ConfigResource(ConfigResource.Type.TOPIC, kafka.topic(topic.name))
    admin = AdminClient(kafka.client())
    (answer,) = admin.describe_configs([resource]).values()
    return int(answer.result()[LIMIT].value)


def set_limit(kafka: KafkaConfig, topic: Topic, limit: int) -> None:
    entry = ConfigEntry(LIMIT, str(limit), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, kafka.topic(topic.name), incremental_configs=[entry])
    admin = AdminClient(kafka.client())
    (answer,) = admin.incremental_alter_configs([resource]).values()
    answer.result()


def test_a_topic_that_takes_too_small_messages_is_put_right_and_one_that_takes_larger_ones_keeps_that(kafka):
    assert raise_limits(kafka) == []
    set_limit(kafka, GROUPS, 1_048_588)
    set_limit(kafka, GROUPING_STATE, 50_000_000)
    (sentence,) = raise_limits(kafka)
    assert sentence == f"{kafka.topic('groups')} takes messages of 8,388,608 bytes now; it took 1,048,588"
    assert limit_of(kafka, GROUPS) == int(GROUPS.config[LIMIT])
    assert limit_of(kafka, GROUPING_STATE) == 50_000_000
    assert raise_limits(kafka) == []
