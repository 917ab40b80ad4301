"""Requests and replies through a real Kafka, below HTTP: late ones, foreign ones, a stage at fault, a stand-by."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from confluent_kafka import Producer

from schemas.codec import codec
from schemas.records import (
    Duplicate,
    Embedding,
    EncodeRequest,
    Envelope,
    Reply,
    ReplyOutcome,
    Request,
    SearchRequest,
    Similar,
)
from streams.config import Config, KafkaConfig
from streams.kafka.admin import create_topics, delete_topics
from streams.kafka.errors import BrokerAway
from streams.requests.client import NotAnswered, RequestClient
from streams.requests.protocol import MAX_MESSAGE_BYTES, reply_to, shrink
from streams.requests.server import RequestServer
from streams.search_consumer import SearchStage
from streams.stage import Outcome, Received, Stage
from streams.topics import CANDIDATES, EMBEDDINGS, ENCODE_REQUESTS, IMAGES_NEW, REPLIES
from tests.support import coroutines
from tests.support.bridging import answering, eventually
from tests.support.streaming import Reader, running, send

T = TypeVar("T")

VECTOR = np.eye(1, 32, dtype=np.float32)[0]


class Echo(Stage[Any]):
    """Stands in for the encoder; replies with the path of the request, and records it."""

    name = "encoder"
    source = IMAGES_NEW
    tombstones = True
    answer_threads = 2
    answer_batch = 4

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.seen = 0

    def run(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        self.seen += len(batch)
        return [() for _ in batch]

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply]:
        paths = [request.relative_path for request in requests if isinstance(request, EncodeRequest)]
        self.asked += paths
        if "a fault" in paths:
            raise ZeroDivisionError("made to fail")
        return [reply_to(r, ReplyOutcome.SERVED, p, fingerprint=VECTOR) for r, p in zip(requests, paths, strict=True)]


def with_client(kafka: KafkaConfig, work: Callable[[RequestClient], Awaitable[T]]) -> T:
    """Run the work with a connected client, and return its result."""

    async def run() -> T:
        client = RequestClient(kafka)
        try:
            while client.trouble:
                await asyncio.sleep(0.01)
            return await work(client)
        finally:
            await asyncio.to_thread(client.close)

    return coroutines.run(asyncio.wait_for(run(), 60))


def test_many_at_a_time_get_their_own_replies(kafka: KafkaConfig) -> None:
    async def ask_all(client: RequestClient) -> list[str]:
        asks = (client.request(EncodeRequest, 30, relative_path=str(n)) for n in range(200))
        return [reply.error_message for reply in await asyncio.gather(*asks)]

    with answering(kafka, Echo()):
        assert with_client(kafka, ask_all) == [str(n) for n in range(200)]


def test_a_stage_that_starts_answers_waiting_requests_and_drops_late_ones(kafka: KafkaConfig) -> None:
    stage = Echo()

    async def ask(client: RequestClient) -> str:
        with pytest.raises(NotAnswered):
            await client.request(EncodeRequest, 0.3, relative_path="late")
        waiting = asyncio.create_task(client.request(EncodeRequest, 30, relative_path="early"))
        await asyncio.sleep(0)
        with answering(kafka, stage):
            # the thread of the stage works while this one waits
            return (await waiting).error_message

    assert with_client(kafka, ask) == "early"
    assert stage.asked == ["early"]


def test_replies_to_others_and_to_nobody_are_skipped(kafka: KafkaConfig) -> None:
    """A predecessor's replies, and another bridge's, may lie in any partition."""

    async def ask(client: RequestClient) -> str:
        waiting = asyncio.create_task(client.request(EncodeRequest, 30, relative_path="mine"))
        await asyncio.sleep(0)
        name = f"{client.instance}-0"
        topic, encode = kafka.topic(REPLIES.name), codec(kafka.registry).encode
        producer = Producer(kafka.client())
        foreign = Reply(name, "another", ReplyOutcome.SERVED, "foreign")
        stale = Reply(name, client.instance, ReplyOutcome.SERVED, "stale")
        for partition in range(REPLIES.partitions):
            producer.produce(topic, encode(topic, foreign), name, partition)
            producer.produce(topic, encode(topic, stale), "gone-0", partition)
            producer.produce(topic, b"no Avro", name, partition)
            producer.produce(topic, None, name, partition)
        assert producer.flush(30) == 0
        with answering(kafka, Echo()):
            return (await waiting).error_message

    assert with_client(kafka, ask) == "mine"


def test_a_fault_while_answering_is_reported_and_the_stage_goes_on(kafka: KafkaConfig) -> None:
    async def ask(client: RequestClient) -> list[Reply]:
        return [await client.request(EncodeRequest, 30, relative_path=path) for path in ("a fault", "fine")]

    with answering(kafka, Echo()):
        failed, fine = with_client(kafka, ask)
    assert (failed.outcome, fine.outcome) == (ReplyOutcome.FAILED, ReplyOutcome.SERVED)
    assert "ZeroDivisionError" in failed.error_message
    assert "made to fail" not in failed.error_message


def test_a_message_that_is_not_a_request_is_skipped(kafka: KafkaConfig) -> None:
    topic = kafka.topic(ENCODE_REQUESTS.name)
    producer = Producer(kafka.client())
    deadline = datetime.now(UTC) + timedelta(minutes=1)
    nowhere = EncodeRequest(Envelope("a", "b", 999, deadline), "nowhere")
    for value in (b"no Avro", None, codec().encode(topic, nowhere)):
        for partition in range(ENCODE_REQUESTS.partitions):
            producer.produce(topic, value, "a", partition)
    assert producer.flush(30) == 0

    async def ask(client: RequestClient) -> str:
        return (await client.request(EncodeRequest, 30, relative_path="fine")).error_message

    with answering(kafka, Echo()):
        assert with_client(kafka, ask) == "fine"


def test_a_reply_too_large_for_a_message_is_a_refusal(kafka: KafkaConfig) -> None:
    class Verbose(Echo):
        def answer(self, requests: Sequence[Request]) -> Sequence[Reply]:
            return [reply_to(request, error_message="x" * 2_000_000) for request in requests]

    async def ask(client: RequestClient) -> Reply:
        return await client.request(EncodeRequest, 30, relative_path="a")

    with answering(kafka, Verbose()):
        reply = with_client(kafka, ask)
    assert reply.outcome is ReplyOutcome.REFUSED
    assert "fewer" in reply.error_message


def test_only_the_process_that_owns_the_log_answers_and_a_stand_by_takes_over(
    kafka: KafkaConfig, tmp_path: Path
) -> None:
    def stage(name: str) -> SearchStage:
        return SearchStage(Config(kafka=kafka, index_dir=tmp_path / name))

    held = [Embedding(n, f"{n}", np.roll(VECTOR, n), "m", bytes([n] * 32), False) for n in range(3)]
    send(kafka, EMBEDDINGS, [(one.relative_path, one) for one in held])
    first, second = stage("first"), stage("second")

    async def nearest(client: RequestClient) -> str:
        reply = await client.request(SearchRequest, 30, fingerprint=np.roll(VECTOR, 1), nb_neighbors=1)
        while reply.outcome is ReplyOutcome.UNAVAILABLE:
            reply = await client.request(SearchRequest, 30, fingerprint=np.roll(VECTOR, 1), nb_neighbors=1)
        assert reply.outcome is ReplyOutcome.SERVED, reply.error_message
        return reply.neighbors[0].relative_path

    with running(first, kafka=kafka, request_server=partial(RequestServer, first, kafka)) as (leader,):
        reader = Reader(kafka, CANDIDATES).until(lambda seen: len(seen.seen["candidates"]) == 3)
        reader.close()
        with running(second, kafka=kafka, request_server=partial(RequestServer, second, kafka)):
            assert (first.owns_requests(), second.owns_requests()) == (True, False)
            assert with_client(kafka, nearest) == "1"
            leader.stop()
            eventually(second.owns_requests)
            assert with_client(kafka, nearest) == "1"


def test_an_asker_connects_when_the_topics_come(bootstrap: str, kafka: KafkaConfig) -> None:
    later = KafkaConfig(bootstrap, prefix=f"{kafka.prefix}later.")

    async def run() -> None:
        client = RequestClient(later)
        try:
            with pytest.raises(BrokerAway):
                await client.request(EncodeRequest, 1, relative_path="a")
            await asyncio.to_thread(create_topics, later)
            while client.trouble:
                await asyncio.sleep(0.01)
            with pytest.raises(NotAnswered):
                await client.request(EncodeRequest, 0.2, relative_path="a")
        finally:
            await asyncio.to_thread(client.close)

    coroutines.run(asyncio.wait_for(run(), 60))
    delete_topics(later)


def test_the_streams_offsets_know_nothing_of_requests(kafka: KafkaConfig) -> None:
    """The runner's own group and transactions are untouched: a thousand requests, and no record, no commit."""
    stage = Echo()

    async def ask(client: RequestClient) -> int:
        replies = await asyncio.gather(*(client.request(EncodeRequest, 60, relative_path=str(n)) for n in range(1000)))
        return len(replies)

    with answering(kafka, stage):
        assert with_client(kafka, ask) == 1000
    assert stage.seen == 0
    for topic in (EMBEDDINGS, CANDIDATES):
        reader = Reader(kafka, topic, isolation_level="read_uncommitted").settled(0.2)
        reader.close()
        assert reader.seen[topic.name] == []


def test_a_reply_with_more_evidence_than_a_message_holds_keeps_what_was_found() -> None:
    region = (0.0, 0.25, 0.5, 1.0, 0.0, 0.25, 0.5, 1.0)
    duplicated = tuple(
        Duplicate(f"{n}.png", 0.9, points=(region[:4],) * 64, relation="same", regions=(region,) * 64)
        for n in range(1000)
    )
    similar = tuple(Similar(f"{n}.jpg", "template", "because", 0.01, (region,) * 16) for n in range(16))
    reply = Reply("c-1", "c", duplicated=duplicated, similar=similar)
    assert len(codec().encode("t", reply)) > MAX_MESSAGE_BYTES
    small = shrink(reply)
    assert len(codec().encode("t", small)) < MAX_MESSAGE_BYTES
    assert [one.relation for one in small.duplicated] == ["same"] * 1000
    assert [one.reason for one in small.similar] == ["because"] * 16
