"""The published schemas against a real registry: no version breaks a reader, of whatever version it is.

Readers of other teams go on with the schema that they were built with, and a stage reads records of every version. So
each version must read all others, and be read by all: FULL_TRANSITIVE.
"""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka.schema_registry import (
    ConfigCompatibilityLevel,
    Schema,
    SchemaRegistryClient,
    SchemaRegistryError,
    ServerConfig,
)

from schemas.codec import published_schemas
from streams.topics import TOPICS, Topic

Json = dict[str, Any]

RULE = ServerConfig(compatibility=ConfigCompatibilityLevel.FULL_TRANSITIVE)
WITH_RECORDS = [topic for topic in TOPICS if topic.kind is not None]


def subject_of(client: SchemaRegistryClient, topic: Topic) -> str:
    """A subject with all published versions of a topic's record, in order."""
    assert topic.kind is not None
    subject = f"compatibility.{topic.name}-value"
    if subject not in client.get_subjects():
        client.set_config(subject, RULE)
        for schema in published_schemas(topic.kind):
            client.register_schema(subject, avro(schema))
    return subject


def avro(schema: Json) -> Schema:
    return Schema(json.dumps(schema), "AVRO")


@pytest.mark.parametrize("topic", WITH_RECORDS, ids=lambda topic: topic.name)
def test_every_version_reads_and_is_read_by_every_other(client: SchemaRegistryClient, topic: Topic) -> None:
    assert topic.kind is not None
    subject = subject_of(client, topic)
    assert client.get_versions(subject) == list(range(1, len(published_schemas(topic.kind)) + 1))


def without_a_first_field(schema: Json) -> None:
    """Readers of an older version need it."""
    del schema["fields"][0]


def with_a_field_that_has_no_default(schema: Json) -> None:
    """Records of an older version lack it."""
    schema["fields"].append({"name": "urgency", "type": "int"})


def with_another_type(schema: Json) -> None:
    schema["fields"][0]["type"] = {"type": "array", "items": "int"}


def with_another_name(schema: Json) -> None:
    schema["fields"][0]["name"] = "renamed"


@pytest.mark.parametrize("topic", WITH_RECORDS, ids=lambda topic: topic.name)
@pytest.mark.parametrize(
    "change", [without_a_first_field, with_a_field_that_has_no_default, with_another_type, with_another_name]
)
def test_a_change_that_breaks_a_reader_is_refused(
    client: SchemaRegistryClient, topic: Topic, change: Callable[[Json], None]
) -> None:
    assert topic.kind is not None
    subject = subject_of(client, topic)
    before = client.get_versions(subject)
    schema = copy.deepcopy(published_schemas(topic.kind)[-1])
    change(schema)
    with pytest.raises(SchemaRegistryError, match="ncompatible") as caught:
        client.register_schema(subject, avro(schema))
    assert caught.value.http_status_code == 409
    assert client.get_versions(subject) == before


def test_a_change_that_only_an_early_version_cannot_read_is_refused(client: SchemaRegistryClient) -> None:
    """The rule looks at all versions, not at the newest alone."""

    def record(**fields: Json) -> Schema:
        named = [{"name": name, **rest} for name, rest in fields.items()]
        return avro({"type": "record", "name": "Seen", "fields": named})

    subject = "steps-value"
    client.set_config(subject, RULE)
    path = {"type": "string"}
    client.register_schema(subject, record(path=path, size={"type": "int", "default": 0}))
    client.register_schema(subject, record(path=path))
    with pytest.raises(SchemaRegistryError, match="ncompatible"):
        client.register_schema(subject, record(path=path, size={"type": "string", "default": ""}))
