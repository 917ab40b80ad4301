"""Confluent framing, with a real schema registry."""

import contextlib
import json
import socket
import threading
import time
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryError

from imagetools.errors import ConfigError, MessageError, RegistryAway
from imagetools.fingerprint.encoder import Encoder
from imagetools.image_root import ImageRoot
from local_kafka.ports import free_ports
from local_kafka.registry import LocalRegistry
from schemas.codec import ConfluentCodec, codec, published_schemas
from schemas.neighbor_records import Neighbor
from schemas.records import Candidates, Embedding, ImageNew, Record, State, Verdict, VerdictOutcome
from streams.config import Config, KafkaConfig
from streams.encoder_consumer import EncoderStage
from streams.topics import DEAD_LETTERS, EMBEDDINGS, IMAGES_NEW, VERDICTS
from tests.support.bridging import eventually
from tests.support.streaming import Reader, running, send, write_groups

RECORDS: tuple[Record, ...] = (
    ImageNew(7, "Zoë 日本.jpg", alert=False),
    Candidates(1, "a.jpg", (Neighbor("b.jpg", 0.5, identical=True),), "m:1:160"),
    Verdict(None, "a.jpg", VerdictOutcome.DEAD_LETTER, "broken"),
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_through_another_client(registry, record):
    value = codec(registry.url).encode("round-trip-" + type(record).__name__, record)
    assert value[0] == 0
    assert codec(registry.url).decode("round-trip-" + type(record).__name__, type(record), value) == record


def test_a_fingerprint_comes_back_bit_by_bit(registry):
    vector = np.random.default_rng(0).normal(size=512).astype(np.float32)
    sent = Embedding(1, "a.jpg", vector, "m:1:160", bytes(range(32)))
    both = codec(registry.url)
    back = both.decode("vectors", Embedding, both.encode("vectors", sent))
    np.testing.assert_array_equal(back.fingerprint, vector)
    assert back.digest == sent.digest


def test_the_number_in_the_framing_is_that_of_the_schema_under_the_topics_subject(registry, client):
    value = codec(registry.url).encode("our.topic", ImageNew(1, "a.jpg"))
    latest = client.get_latest_version("our.topic-value")
    assert value[:5] == b"\0" + latest.schema_id.to_bytes(4)
    assert json.loads(latest.schema.schema_str)["fields"] == published_schemas(ImageNew)[-1]["fields"]
    # again, and by another process: the same version
    codec(registry.url).encode("our.topic", ImageNew(2, "b.jpg"))
    assert client.get_versions("our.topic-value") == [1]


def test_an_incompatible_schema_is_refused_by_the_registry(registry, client):
    other = {"type": "record", "name": "ImageNew", "namespace": "imagetools", "fields": [{"name": "x", "type": "int"}]}
    client.register_schema("taken-value", Schema(json.dumps(other), "AVRO"))
    with pytest.raises(SchemaRegistryError, match="ncompatible") as caught:
        codec(registry.url).encode("taken", ImageNew(1, "a.jpg"))
    assert caught.value.http_status_code == 409
    assert client.get_versions("taken-value") == [1]


def test_a_message_of_an_older_schema_is_read_with_the_newer_ones_defaults(registry, client):
    """As a producer whose schema lacks `alert` and `metadata` would send it."""
    fields = published_schemas(ImageNew)[0]["fields"][:2]
    older = {"type": "record", "name": "ImageNew", "namespace": "imagetools", "fields": fields}
    number = client.register_schema("older-value", Schema(json.dumps(older), "AVRO"))
    value = b"\0" + number.to_bytes(4) + b"\x0e\x0aa.jpg"
    assert codec(registry.url).decode("older", ImageNew, value) == ImageNew(7, "a.jpg", alert=True)


def refused(registry: LocalRegistry, value: bytes) -> str:
    with pytest.raises(MessageError) as caught:
        codec(registry.url).decode("t", ImageNew, value)
    return str(caught.value)


def test_an_unknown_number_is_the_messages_fault(registry):
    assert "4294967" in refused(registry, b"\0" + (4_294_967).to_bytes(4) + b"\x0e\x0aa.jpg\x01")


@pytest.mark.parametrize("value", [b"", b"\0", b"\0\0\0\0\1", b"\xc3\x01" + bytes(12), b'{"request_id": 1}'])
def test_another_framing_is_the_messages_fault(registry, value):
    assert "Confluent framing" in refused(registry, value)


def test_another_records_schema_and_a_cut_body_are_the_messages_fault(registry):
    both = codec(registry.url)
    refused(registry, both.encode("verdicts", Verdict(1, "a", VerdictOutcome.CLEAR)))
    value = both.encode("cut", ImageNew(1, "folder/a.jpg"))
    for end in range(len(value)):
        refused(registry, value[:end])


def test_a_registry_that_is_away_is_nobodys_fault(registry):
    value = codec(registry.url).encode("away", ImageNew(1, "a.jpg"))
    (port,) = free_ports(1)
    away = ConfluentCodec(f"http://127.0.0.1:{port}", {"max.retries": 0})
    for attempt in (lambda: away.decode("away", ImageNew, value), lambda: away.encode("away", ImageNew(1, "a.jpg"))):
        with pytest.raises(RegistryAway, match="refused") as caught:
            attempt()
        assert not isinstance(caught.value, MessageError)
        assert "127.0.0.1" in str(caught.value)


def test_a_secret_in_the_address_is_not_told():
    (port,) = free_ports(1)
    away = ConfluentCodec(f"http://user:secret@127.0.0.1:{port}", {"max.retries": 0})
    with pytest.raises(RegistryAway) as caught:
        away.encode("away", ImageNew(1, "a.jpg"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["foo", "ftp://registry", "http://", "http://a b", "http://fine,nonsense"])
def test_an_address_that_is_none_is_refused_at_the_start(address):
    with pytest.raises(ConfigError, match="SCHEMA_REGISTRY_URL"):
        Config.from_env({"SCHEMA_REGISTRY_URL": address})


def test_a_codec_names_the_setting_that_is_no_address():
    with pytest.raises(ConfigError, match="SCHEMA_REGISTRY_URL"):
        codec("foo")


class Door:
    """A port that leads to the registry while it is open."""

    def __init__(self, registry: LocalRegistry) -> None:
        self._there = urlsplit(registry.url)
        (self.port,) = free_ports(1)
        self.url = registry.url.replace(str(self._there.port), str(self.port))
        self.open = True
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            here, _ = self._server.accept()
            if not self.open:
                here.close()
                continue
            there = socket.create_connection(("127.0.0.1", self._there.port or 0))
            for one, other in ((here, there), (there, here)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while self.open and (data := one.recv(65536)):
                if not self.open:
                    break
                other.sendall(data)
        one.close()
        other.close()


def test_a_stage_waits_for_a_registry_that_is_away_and_loses_nothing(registry, kafka, tmp_path):
    """It is away when the stage reads its first record, and again when it writes its first."""
    images = tmp_path / "images"
    (a, *_) = write_groups(images, 1)
    framed = replace(kafka, registry=registry.url)
    send(framed, IMAGES_NEW, [(a, ImageNew(1, a))])
    door = Door(registry)
    door.open = False
    told: list[tuple[Any, ...]] = []

    def waits() -> int:
        return sum(state[0] is State.WAITING and "schema registry" in state[1] for state in told)

    class Slow(EncoderStage):
        """The door shuts when it has read for the first time, before it writes."""

        runs = 0

        def run(self, batch: Any) -> Any:
            self.runs += 1
            door.open = self.runs > 1
            return super().run(batch)

    stage = Slow(Encoder.load(), ImageRoot(images), threads=1)
    with running(stage, kafka=replace(framed, registry=door.url), on_state=lambda *state: told.append(state)):
        eventually(lambda: waits() > 0)
        door.open = True
        eventually(lambda: stage.runs == 1)
        before = waits()
        eventually(lambda: waits() > before)
        door.open = True
        reader = Reader(framed, EMBEDDINGS, DEAD_LETTERS).until(lambda r: r.seen["embeddings"]).settled()
    reader.close()
    assert reader.seen["dead-letters"] == []
    assert [record.relative_path for record in reader.seen["embeddings"]] == [a]
    assert stage.runs > 1
    assert told[-1][0] is State.RUNNING


def test_a_registry_that_takes_a_request_and_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr("schemas.codec.REGISTRY_TIMEOUT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(RegistryAway, match="timed out") as caught:
            ConfluentCodec(url, {"max.retries": 0}).decode("t", ImageNew, b"\0\0\0\0\1\2\2a\1")
    assert 0.9 < time.monotonic() - began < 10
    assert not isinstance(caught.value, MessageError)


def test_messages_travel_through_kafka_in_this_framing(registry, kafka, client):
    framed = KafkaConfig(kafka.bootstrap, kafka.prefix, member=kafka.member, registry=registry.url)
    send(framed, IMAGES_NEW, [("a.jpg", ImageNew(1, "a.jpg")), ("b.jpg", None)])
    send(framed, VERDICTS, [("a.jpg", Verdict(1, "a.jpg", VerdictOutcome.CLEAR))])
    reader = Reader(framed, IMAGES_NEW, VERDICTS)
    reader.until(lambda r: len(r.seen["images.new"]) == 2 and len(r.seen["verdicts"]) == 1)
    assert ImageNew(1, "a.jpg") in reader.seen["images.new"]
    assert None in reader.seen["images.new"]
    assert reader.seen["verdicts"] == [Verdict(1, "a.jpg", VerdictOutcome.CLEAR)]
    assert framed.topic("images.new") + "-value" in client.get_subjects()
    reader.close()
