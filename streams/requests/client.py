"""Sends requests to the stages and waits for their replies.

Any number of clients may share the topic of replies. Each reads one partition of it without a group, from the end that
it looks up before its first request. Correlation ids are unique across clients and restarts, so a client recognizes its
own replies by them.
"""

import asyncio
import itertools
import logging
import random
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from imagetools.errors import ImageToolsError, MessageError, RegistryAway
from schemas.codec import codec
from schemas.records import Envelope, Reply, Request
from streams.config import KafkaConfig
from streams.kafka import clients
from streams.kafka.async_producer import AsyncProducer
from streams.kafka.errors import BrokerAway, describe, of_unused_group
from streams.kafka.messages import coordinates
from streams.requests.protocol import MAX_MESSAGE_BYTES, REQUEST_TOPICS
from streams.requests.shard_replies import ShardReplies
from streams.topics import REPLIES
from streams.traces.base import NO_TRACES, Traces

log = logging.getLogger(__name__)

POLL_S = 0.1
RETRY_S = 0.5
CONNECT_TIMEOUT_S = 3.0
PROBE_TIMEOUT_S = 1.0


class NotAnswered(Exception):
    """Kafka has the request, and no stage replied in time."""


class ShardsSilent(Exception):
    """Some shards replied to a search and others did not in time, so no answer is whole."""


class RequestTooLarge(ImageToolsError):
    """The request does not fit into one message."""


@dataclass(frozen=True)
class _ReplyPosition:
    """Where this client reads its replies."""

    topic: str
    partition: int
    offset: int


class RequestClient:
    """Sends requests to stages; for one event loop.

    instance  the client's own name, new for every process
    """

    def __init__(self, kafka: KafkaConfig, *, traces: Traces = NO_TRACES) -> None:
        """Connect in the background; while Kafka is away, `request` raises BrokerAway."""
        self.instance = uuid.uuid4().hex
        self._kafka = kafka
        self._codec = codec(kafka.registry)
        self._numbers = itertools.count()
        self._waiting: dict[bytes, Callable[[Reply], object]] = {}
        self._position: _ReplyPosition | None = None
        self._trouble = "not connected yet"
        self._producer = AsyncProducer(kafka, on_error=self._note, traces=traces, acks="1")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="replies")
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why Kafka cannot be reached, as far as is known; empty when it can."""
        return self._trouble

    async def request(self, kind: type[Request], timeout_s: float, **fields: Any) -> Reply:
        """Send a request of that kind and return the reply; `fields` are those beside the envelope.

        Of a search in shards it is the replies of all, merged.
        BrokerAway, NotAnswered, ShardsSilent, RegistryAway, RequestTooLarge.
        """
        if self._position is None:
            raise BrokerAway(self._trouble)
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()
        name = f"{self.instance}-{next(self._numbers)}"
        key = name.encode()
        deadline = datetime.now(UTC) + timedelta(seconds=timeout_s)
        record = kind(Envelope(name, self.instance, self._position.partition, deadline), **fields)
        topic = self._kafka.topic(REQUEST_TOPICS[kind].name)
        value = self._codec.encode(topic, record)
        if len(value) > MAX_MESSAGE_BYTES:
            raise RequestTooLarge(f"the request has {len(value):,} bytes, one message holds {MAX_MESSAGE_BYTES:,}")
        replies = ShardReplies()
        self._waiting[key] = lambda found: loop.call_soon_threadsafe(_settle, reply, replies, found)
        try:
            sent = self._producer.send(topic, value, key)
            sent.add_done_callback(lambda done: self._sent(done, reply))
            return await asyncio.wait_for(reply, timeout_s)
        except TimeoutError:
            if self._trouble:
                raise BrokerAway(self._trouble) from None
            if missing := replies.missing():
                names = ", ".join(map(str, missing))
                raise ShardsSilent(f"no answer of shard {names} within {timeout_s:g} s") from None
            raise NotAnswered(f"no answer within {timeout_s:g} s") from None
        finally:
            del self._waiting[key]

    def close(self) -> None:
        """Close the connections; open requests get no reply."""
        self._closing.set()
        self._thread.join()
        self._producer.close()

    def _sent(self, sent: asyncio.Future[int], reply: asyncio.Future[Reply]) -> None:
        if sent.cancelled():
            return
        error = sent.exception()
        if error is None:
            self._trouble = ""
        elif not reply.done():
            reply.set_exception(error)

    # on the thread of replies

    def _follow(self) -> None:
        consumer = clients.replies_consumer(self._kafka, self._note)
        try:
            while not self._closing.is_set():
                if self._position is None:
                    self._position = self._connect(consumer)
                    continue
                if self._trouble:
                    self._probe(consumer)
                message = consumer.poll(POLL_S)
                if message is not None:
                    self._receive(message)
        finally:
            consumer.close()

    def _connect(self, consumer: Consumer) -> _ReplyPosition | None:
        name = self._kafka.topic(REPLIES.name)
        try:
            found = consumer.list_topics(name, timeout=CONNECT_TIMEOUT_S).topics[name]
            if found.error is not None:
                raise KafkaException(found.error)
            partition = random.choice(list(found.partitions))
            _, end = consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=CONNECT_TIMEOUT_S)
            consumer.assign([TopicPartition(name, partition, end)])
        except KafkaException as exc:
            self._note(exc.args[0])
            self._closing.wait(RETRY_S)
            return None
        self._trouble = ""
        return _ReplyPosition(name, partition, end)

    def _probe(self, consumer: Consumer) -> None:
        """Notice that Kafka is back before the next request."""
        try:
            consumer.list_topics(self._kafka.topic(REPLIES.name), timeout=PROBE_TIMEOUT_S)
        except KafkaException as exc:
            self._note(exc.args[0])
        else:
            self._trouble = ""

    def _receive(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if of_unused_group(error):
                return
            if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                self._position = None
            self._note(error)
            return
        settle = self._waiting.get(bytes(message.key() or b""))
        value = message.value()
        if settle is None or value is None:
            # another client's reply, or one that came too late
            return
        try:
            reply = self._codec.decode(message.topic() or "", Reply, value)
        except (MessageError, RegistryAway) as exc:
            log.warning("a reply at offset %s was dropped: %s", message.offset(), exc, extra=coordinates(message))
            return
        if reply.bridge == self.instance:
            settle(reply)

    def _note(self, error: KafkaError) -> None:
        self._trouble = describe(self._kafka, error)


def _settle(reply: asyncio.Future[Reply], replies: ShardReplies, found: Reply) -> None:
    whole = replies.take(found)
    if whole is not None and not reply.done():
        reply.set_result(whole)
