"""Notifications of a bucket, as S3 and MinIO send them: what they say, and what follows from them."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from cli.announcing.bucket_events import OTHER_EVENT, BadEvent, BucketEvents, ObjectChange, PassedOver
from imagetools.errors import ConfigError
from streams.config import KafkaConfig
from streams.topics import DEAD_LETTERS, IMAGES_NEW
from tests.support.object_store import Bucket
from tests.support.processes import Running, start
from tests.support.streaming import Reader

EVENTS = BucketEvents("s3://photos/shop")


def record(name: str, key: str, bucket: str = "photos") -> dict[str, Any]:
    return {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "awsRegion": "",
        "eventTime": "2026-11-28T20:00:00.000Z",
        "eventName": name,
        "userIdentity": {"principalId": "someone"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "Config",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": key, "size": 8, "eTag": "e", "sequencer": "1"},
        },
    }


def event(*records: dict[str, Any]) -> bytes:
    first = records[0]
    key = f"{first['s3']['bucket']['name']}/{first['s3']['object']['key']}"
    return json.dumps({"EventName": first["eventName"], "Key": key, "Records": records}).encode()


@pytest.mark.parametrize(
    ("name", "key", "change"),
    [
        ("s3:ObjectCreated:Put", "shop/a.jpg", ObjectChange("a.jpg", False)),
        ("ObjectCreated:CompleteMultipartUpload", "shop/b%2Fc+d%2B%C3%BC.jpg", ObjectChange("b/c d+ü.jpg", False)),
        ("s3:ObjectRestore:Completed", "shop/a.jpg", ObjectChange("a.jpg", False)),
        ("s3:ObjectRemoved:Delete", "shop/a.jpg", ObjectChange("a.jpg", True)),
        ("ObjectRemoved:DeleteMarkerCreated", "shop%2Fa.jpg", ObjectChange("a.jpg", True)),
        ("s3:LifecycleExpiration:Delete", "shop/a.jpg", ObjectChange("a.jpg", True)),
        ("s3:ObjectCreated:Put", "shop/without", ObjectChange("without", False)),
        ("s3:ObjectCreated:Put", "other/a.jpg", PassedOver("photos/other/a.jpg", "of other buckets or prefixes")),
        ("s3:ObjectCreated:Put", "shop/a.txt", PassedOver("photos/shop/a.txt", "not images")),
        ("s3:ObjectCreated:Put", "shop/", PassedOver("photos/shop/", "not images")),
        ("s3:ObjectCreated:Put", "shop/.a.jpg", PassedOver("photos/shop/.a.jpg", "hidden")),
        ("s3:ObjectCreated:Put", "shop/a.nef", PassedOver("photos/shop/a.nef", "camera raw")),
        ("s3:ObjectCreated:Put", "shop/..%2Fa.jpg", PassedOver("photos/shop/../a.jpg", "hidden")),
        ("s3:ObjectCreated:Put", "shop//a.jpg", PassedOver("photos/shop//a.jpg", "with an unusable name")),
        ("ObjectTagging:Put", "shop/a.jpg", PassedOver("ObjectTagging:Put of photos/shop/a.jpg", OTHER_EVENT)),
    ],
)  # fmt: skip
def test_what_an_event_says(name, key, change):
    assert EVENTS.read(event(record(name, key))) == [change]


def test_a_message_may_tell_of_several_objects_and_of_none():
    many = event(record("ObjectCreated:Put", "shop/a.jpg"), record("ObjectRemoved:Delete", "shop/b.jpg"))
    assert EVENTS.read(many) == [ObjectChange("a.jpg", False), ObjectChange("b.jpg", True)]
    test = b'{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-11-28T20:00:00Z","Bucket":"photos"}'
    assert EVENTS.read(test) == [PassedOver("s3:TestEvent", OTHER_EVENT)]


@pytest.mark.parametrize(
    "message",
    [None, b"", b"no JSON", b"[]", b"{}", b'{"Records": [{"eventName": "x"}]}', b'{"Records": 1}', b"\xff\xfe"],
)
def test_what_is_no_event_says_why(message):
    with pytest.raises(BadEvent, match="is no event of S3"):
        EVENTS.read(message)


def test_a_folder_has_no_events():
    with pytest.raises(ConfigError, match="follows a bucket of s3://, and IMAGES_DIR is /data"):
        BucketEvents("/data")


@contextmanager
def following(kafka: KafkaConfig, topic: str, bucket: Bucket, log: Path) -> Iterator[Running]:
    words = ["produce", "--from-topic", topic, "--images-dir", f"{bucket.address}/shop"]
    words += ["--kafka-bootstrap-servers", kafka.bootstrap, "--topic-prefix", kafka.prefix]
    running = start(*words, log=log, environ=bucket.environ)
    try:
        yield running
        running.process.send_signal(signal.SIGINT)
        running.ends(0)
    finally:
        running.process.kill()
        running.process.wait()


def test_a_buckets_notifications_are_announced_in_order_and_go_on_where_they_stopped(kafka, object_server, tmp_path):
    topic, log = f"{kafka.prefix}events", tmp_path / "log"
    admin = AdminClient(kafka.client())
    admin.create_topics([NewTopic(topic, 1)])[topic].result()
    bucket = object_server.bucket()
    bucket.put_as("shop/b.jpg", b"it has come back, or an older version was removed")
    producer = Producer(kafka.client())

    def send(*values: bytes) -> None:
        for value in values:
            producer.produce(topic, value, b"some key")
        assert producer.flush(30) == 0

    def told(name: str, key: str) -> bytes:
        return event(record(name, key, bucket.name))

    send(
        told("s3:ObjectCreated:Put", "shop/a.jpg"),
        b"no event",
        told("s3:ObjectRemoved:Delete", "shop/a.jpg"),
        told("s3:ObjectRemoved:Delete", "shop/b.jpg"),
        told("s3:ObjectCreated:Put", "elsewhere/c.jpg"),
    )
    reader = Reader(kafka, IMAGES_NEW, DEAD_LETTERS)
    with following(kafka, topic, bucket, log) as running:
        reader.until(lambda r: len(r.seen["images.new"]) >= 3 and r.seen["dead-letters"])
        running.said("2 announced, 1 gone, 1 dead letters, 1 of other buckets")
        assert "partition 0 offset 1: is no event of S3: " in running.text
    send(told("s3:ObjectCreated:Put", "shop/d.jpg"))
    with following(kafka, topic, bucket, log):
        reader.until(lambda r: len(r.seen["images.new"]) >= 4).settled(1)
    by_path: dict[str, list[bool]] = {}
    for message in reader.messages["images.new"]:
        by_path.setdefault(message.key().decode(), []).append(message.value() is not None)
    assert by_path == {"a.jpg": [True, False], "b.jpg": [True], "d.jpg": [True]}
    (letter,) = reader.messages["dead-letters"]
    assert letter.value() == b"no event"
    headers = dict(letter.headers())
    assert (headers["stage"], headers["offset"], headers["error-type"]) == (b"produce", b"1", b"BadEvent")
    reader.close()
