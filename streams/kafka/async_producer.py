"""Single messages sent from an event loop, without a transaction, and word of when the broker has them."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.config import KafkaConfig

DELIVERY_S = 3.0
"""How long a message may take to reach the broker; then it is away."""

POLL_S = 0.1

BACKOFF_MS = 1000
"""Between tries to connect; librdkafka waits up to 10 s and more, and somebody waits for word that Kafka is back."""


class BrokerAway(Exception):
    """Kafka does not answer, or has no such topic; it may later."""


class Outbox:
    """A producer and the thread that serves it; `send` is for one event loop."""

    def __init__(self, kafka: KafkaConfig, *, on_error: Callable[[KafkaError], None] = lambda _: None, **settings: Any):
        """on_error: told, on another thread, of what the client says about its connections."""
        client = kafka.client(
            linger_ms=0,
            # nor may the kernel hold a message back until the one before has been acknowledged
            socket_nagle_disable=True,
            reconnect_backoff_max_ms=BACKOFF_MS,
            partitioner="murmur2_random",
            message_timeout_ms=int(1000 * DELIVERY_S),
            allow_auto_create_topics=False,
            **settings,
        )
        self._producer = Producer(client | {"error_cb": on_error})
        self._open = True
        self._thread = threading.Thread(target=self._poll, name="outbox")
        self._thread.start()

    def send(self, topic: str, value: bytes | None, key: bytes) -> asyncio.Future[None]:
        """Done when the broker has it; BrokerAway where it does not take it within DELIVERY_S."""
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[None] = loop.create_future()

        def delivered(error: KafkaError | None, _: Message) -> None:
            loop.call_soon_threadsafe(_settle, sent, error)

        try:
            self._producer.produce(topic, value, key, on_delivery=delivered)
        except BufferError:
            sent.set_exception(BrokerAway("more messages wait for Kafka than this process may hold"))
        except KafkaException as exc:
            sent.set_exception(BrokerAway(f"Kafka did not take the message: {exc.args[0].str()}"))
        return sent

    def close(self) -> None:
        """Let go of the connection; what is not delivered within a second is lost."""
        self._open = False
        self._thread.join()
        self._producer.flush(1.0)

    def _poll(self) -> None:
        while self._open:
            self._producer.poll(POLL_S)


def _settle(sent: asyncio.Future[None], error: KafkaError | None) -> None:
    if sent.done():
        return
    if error is None:
        sent.set_result(None)
    else:
        sent.set_exception(BrokerAway(f"Kafka did not take the message: {error.str()}"))
