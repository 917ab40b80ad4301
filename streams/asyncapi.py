"""The AsyncAPI document of all topics: names, settings, records and headers, and who reads and writes them."""

from importlib.metadata import version
from typing import Any

from schemas.codec import published_schemas
from streams.kafka.dead_letters import ORIGIN
from streams.topics import (
    ALSO_READS,
    ANNOUNCED_AT,
    ANNOUNCED_IN,
    ANSWERS,
    CANDIDATES,
    DEAD_LETTERS,
    DECISIONS,
    DUPLICATES,
    EMBEDDINGS,
    IMAGES_NEW,
    READS,
    REPLAYED,
    REPLAYED_LETTER,
    REPLIES,
    TOPICS,
    VERDICTS,
    WRITES,
    Topic,
)
from streams.traces.base import TRACEPARENT, TRACESTATE

Json = dict[str, Any]

AVRO = "application/vnd.apache.avro+json;version=1.9.0"
BINDING = {"bindingVersion": "0.5.0"}

DESCRIPTION = """\
Image paths come in on images.new; alerts go out on duplicates, and a verdict on every image on verdicts. TOPIC_PREFIX \
stands in front of every topic and group. Values are Avro in single-object encoding (C3 01, the CRC-64-AVRO \
fingerprint of the schema, the body), or in Confluent's framing where the service uses a schema registry. Messages are \
written in the schemas below; those of earlier versions can be read. Keys are UTF-8. Read with \
isolation.level=read_committed, and produce with partitioner=murmur2_random."""


def document() -> Json:
    """Return the document, as JSON."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "imagetools", "version": version("imagetools-kafka"), "description": DESCRIPTION},
        "defaultContentType": "application/vnd.apache.avro",
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": _operations(),
    }


def _channel(topic: Topic) -> Json:
    return {
        "address": topic.name,
        "description": topic.holds,
        "messages": _messages(topic),
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {name: _setting(name, text) for name, text in topic.config.items()},
                **BINDING,
            }
        },
    }


def _setting(name: str, text: str) -> Any:
    return text.split(",") if name == "cleanup.policy" else int(text)


def _messages(topic: Topic) -> Json:
    common: Json = {"bindings": {"kafka": {"key": {"type": "string", "description": topic.key}, **BINDING}}}
    if headers := _headers(topic):
        common["headers"] = headers
    if topic.kind is None:
        return {"message": {**common, "contentType": "application/octet-stream", "summary": topic.holds}}
    schema = published_schemas(topic.kind)[-1]
    name = topic.kind.__name__
    found = {name: {**common, "name": name, "payload": {"schemaFormat": AVRO, "schema": schema}}}
    if topic.tombstone:
        found["Tombstone"] = {**common, "summary": topic.tombstone, "payload": {"type": "null"}}
    return found


def _headers(topic: Topic) -> Json:
    """Return the headers that the service adds; those of a producer come before them."""
    place = {
        TRACEPARENT: "where traces are on, the span that the message comes from (W3C Trace Context), in place of the "
        "announcement's own",
        TRACESTATE: "what the announcement's trace says of itself to those who follow it",
    }
    if topic is DEAD_LETTERS:
        origin = dict.fromkeys(ORIGIN, "where the message stood, and why it was set aside")
        return _texts(place | origin) | {"required": list(ORIGIN)}
    announced = {
        ANNOUNCED_IN: "the partition of images.new that held the announcement",
        ANNOUNCED_AT: "the announcement's timestamp, milliseconds since 1970",
    }
    replayed = {
        REPLAYED: "how often a message that was a dead letter has been sent back",
        REPLAYED_LETTER: "the name of that dead letter",
    }
    if topic is IMAGES_NEW:
        return _texts(replayed | place)
    if topic in (DECISIONS, *ANSWERS.values()):
        return _texts(place)
    return _texts(announced | replayed | place) if topic in (EMBEDDINGS, CANDIDATES, DUPLICATES, VERDICTS) else {}


def _texts(descriptions: dict[str, str]) -> Json:
    properties = {name: {"type": "string", "description": text} for name, text in descriptions.items()}
    return {"type": "object", "properties": properties}


def _operations() -> Json:
    found: Json = {}
    for stage, source in READS.items():
        group = {"kafka": {"groupId": {"type": "string", "const": stage}, **BINDING}}
        for topic in (source, *ALSO_READS.get(stage, ())):
            found[f"{stage}-receives-{topic.name}"] = _operation("receive", topic) | {"bindings": group}
        if stage in ANSWERS:
            reply = {"reply": {"channel": _reference(REPLIES)}}
            found[f"{stage}-answers-{ANSWERS[stage].name}"] = _operation("receive", ANSWERS[stage]) | reply
    for process, topics in WRITES.items():
        for topic in topics:
            found[f"{process}-sends-{topic.name}"] = _operation("send", topic)
    return found


def _operation(action: str, topic: Topic) -> Json:
    return {"action": action, "channel": _reference(topic)}


def _reference(topic: Topic) -> Json:
    return {"$ref": f"#/channels/{topic.name}"}
