"""The largest message that a topic takes, where it is not the cluster's: topics of earlier versions have less."""

from collections.abc import Collection
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from streams.config import KafkaConfig
from streams.kafka.clients import admin_client
from streams.topics import TOPICS

LIMIT: Final = "max.message.bytes"
TIMEOUT_S: Final = 30.0
_REFUSED: Final = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}


def raise_limits(kafka: KafkaConfig, made: Collection[str] = ()) -> list[str]:
    """Let each topic take the messages that are sent to it; return a sentence on each that took less.

    made  topics by their names on the cluster that were just created, and are right
    A topic that takes more keeps that. Where this user may not read or change settings, the sentence says what has to
    be done. KafkaException when a topic is missing.
    """
    admin = admin_client(kafka)
    wanted = {kafka.topic(topic.name): int(topic.config[LIMIT]) for topic in TOPICS if LIMIT in topic.config}
    tried = [_raise_limit(admin, name, limit) for name, limit in wanted.items() if name not in made]
    return [sentence for sentence in tried if sentence]


def _raise_limit(admin: AdminClient, name: str, limit: int) -> str:
    try:
        now = _limit_of(admin, name)
        if now >= limit:
            return ""
        entry = ConfigEntry(LIMIT, str(limit), incremental_operation=AlterConfigOpType.SET)
        changed = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[entry])
        _only(admin.incremental_alter_configs([changed], request_timeout=TIMEOUT_S))
    except KafkaException as exc:
        if exc.args[0].code() not in _REFUSED:
            raise
        return (
            f"{name} has to take messages of {limit:,} bytes, and this user may not see to it: {exc.args[0].str()}; "
            f"have somebody set {LIMIT}={limit}, or larger messages will stop the grouping stage"
        )
    return f"{name} takes messages of {limit:,} bytes now; it took {now:,}"


def _limit_of(admin: AdminClient, name: str) -> int:
    asked = ConfigResource(ConfigResource.Type.TOPIC, name)
    return int(_only(admin.describe_configs([asked], request_timeout=TIMEOUT_S))[LIMIT].value)


def _only(answers: dict[ConfigResource, Future[Any]]) -> Any:
    (answer,) = answers.values()
    return answer.result()
