"""The documented rights of what runs seldom, or belongs to other teams: enough, too."""

import signal
from typing import Any

import pytest
import torch
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from schemas.records import ImageNew
from streams import encoder_consumer
from streams.permissions import Operation, Resource, Right
from streams.topics import DUPLICATES, IMAGES_NEW
from tests.cli.announcing.test_bucket_events import event, record
from tests.support.bridging import eventually
from tests.support.cluster import ADMIN
from tests.support.granted import (
    EVENTS,
    PREFIX,
    SECOND_LOG,
    assert_named,
    grant,
    imagetools,
    service,
    user_of,
    without,
)
from tests.support.processes import start
from tests.support.streaming import Reader, send, write_groups
from tests.support.watching import ports_in_a_row

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with another model: the default's network with its projection turned."""
    folder = tmp_path_factory.mktemp("models")
    state = torch.load(encoder_consumer.__file__.rsplit("/", 2)[0] + "/imagetools/models/resnet18.th")
    turn, _ = torch.linalg.qr(torch.randn(512, 512, generator=torch.Generator().manual_seed(1)))
    for name in ("weight", "bias"):
        state[f"projection.{name}"] = (turn @ state[f"projection.{name}"].float()).half()
    torch.save(state, folder / "other.th")
    return folder


def test_a_producer_and_a_consumer_of_another_team(topics):
    for name in ("your producer", "your consumer"):
        grant(topics, name)
    topics.grant(user_of("your consumer"), [Right(Operation.READ, Resource.GROUP, "their-own")])
    send(topics.config(user_of("your producer"), PREFIX), IMAGES_NEW, [("theirs.png", ImageNew(1, "theirs.png"))])
    reader = Reader(topics.config(user_of("your consumer"), PREFIX), DUPLICATES, group="their-own").settled(1)
    reader.close()


def test_a_bucket_is_followed(topics, object_server, tmp_path):
    grant(topics, "produce --from-topic", "produce", "produce --from-topic")
    admin = topics.config(ADMIN)
    # the answer comes only while the client is there
    client = AdminClient(admin.client())
    client.create_topics([NewTopic(EVENTS, 1)])[EVENTS].result()
    bucket = object_server.bucket()
    bucket.put_as("a.jpg", b"some bytes")
    producer = Producer(admin.client())
    for value in (event(record("s3:ObjectCreated:Put", "a.jpg", bucket.name)), b"no event"):
        producer.produce(EVENTS, value)
    assert producer.flush(30) == 0
    environ = topics.environ(user_of("produce --from-topic"), PREFIX) | bucket.environ
    environ |= {"IMAGES_DIR": bucket.address}
    follow = start("produce", "--from-topic", EVENTS, log=tmp_path / "log", environ=environ)
    follow.said("1 announced, 0 gone, 1 dead letters")
    follow.process.send_signal(signal.SIGINT)
    assert "uthorization" not in follow.ends(0)


def test_a_collection_moves_to_another_model_and_to_two_shards(topics, models, tmp_path):
    write_groups(tmp_path / "images", 3)
    grant(topics, "reencode")
    grant(topics, "reshard")
    grant(topics, "produce", "produce", "produce --wait")
    other: Any = {"IMAGES_DIR": str(tmp_path / "images"), "MODELS_DIR": str(models), "MODELS_NAME": "other.th"}
    words = ("reencode", "--to", SECOND_LOG)
    # another test may have made it
    admin, log = AdminClient(topics.config(ADMIN).client()), PREFIX + SECOND_LOG
    if log in admin.list_topics(timeout=10).topics:
        admin.delete_topics([log])[log].result()
        eventually(lambda: log not in admin.list_topics(timeout=10).topics)
    with service(topics, tmp_path / "images", tmp_path, ports_in_a_row(1)):
        imagetools(topics, "produce", "produce", tmp_path / "images", "--wait", IMAGES_DIR=str(tmp_path / "images"))
        # what is not asked about beforehand
        for right in (
            Right(Operation.CREATE, Resource.TOPIC, PREFIX + SECOND_LOG),
            Right(Operation.WRITE, Resource.TRANSACTIONAL_ID, f"{PREFIX}reencoder.{SECOND_LOG}-", True),
        ):
            with without(topics, "reencode", right, "reencode"):
                assert_named(topics, "reencode", right, imagetools(topics, "reencode", *words, code=2, **other).output)
        imagetools(topics, "reencode", *words, **other)
        right = Right(Operation.WRITE, Resource.TRANSACTIONAL_ID, f"{PREFIX}embeddings-reshard")
        with without(topics, "reshard", right, "reshard"):
            assert_named(topics, "reshard", right, imagetools(topics, "reshard", "reshard", "2", code=2).output)
        # it had made the groups of the new shards
        assert "Done" in imagetools(topics, "reshard", "reshard", "1").output
    assert "From offset" in imagetools(topics, "reshard", "reshard", "2").output
    assert "From offset" in imagetools(topics, "reshard", "reshard", "1").output
