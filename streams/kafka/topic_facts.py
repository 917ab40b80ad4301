"""What a cluster says of topics, beside their offsets, and the names of the groups that there are.

A client keeps asking the broker that it took for the controller, and waits for every broker that it has ever known. So
each call either refreshes what the client knows, or has a client of its own.
"""

from collections.abc import Iterable
from typing import Final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from streams.config import KafkaConfig
from streams.kafka.clients import admin_client

TIMEOUT_S: Final = 5.0
"""A process must be able to stop meanwhile."""


def log_id(admin: AdminClient, topic: str) -> str:
    """Return the topic's id: a topic that was deleted and made again has another."""
    admin.list_topics(topic, timeout=TIMEOUT_S)
    described = admin.describe_topics(TopicCollection([topic]), request_timeout=TIMEOUT_S)
    identity = described[topic].result().topic_id
    # the id's own text has slashes, which a folder's name cannot have
    return f"{identity.get_most_significant_bits():x}{identity.get_least_significant_bits():x}"


def retention_ms(admin: AdminClient, topics: Iterable[str]) -> int | None:
    """Return the longest retention among the topics; None when one keeps its messages for ever."""
    admin.list_topics(timeout=TIMEOUT_S)
    asked = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
    answers = admin.describe_configs(asked, request_timeout=TIMEOUT_S).values()
    kept = [int(answer.result()["retention.ms"].value) for answer in answers]
    return None if min(kept) < 0 else max(kept)


def group_names(kafka: KafkaConfig) -> set[str]:
    """Return the names of all consumer groups that this user may see.

    KafkaException where one of the brokers does not answer: a part of the names would pass for all.
    """
    # the answer comes only while the client is there
    admin = admin_client(kafka)
    found = admin.list_consumer_groups(request_timeout=TIMEOUT_S).result()
    if found.errors:
        raise KafkaException(found.errors[0])
    return {one.group_id for one in found.valid}
