"""A producer for an event loop: sends single messages without a transaction and awaits their delivery."""

import asyncio
import threading
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message

from streams.config import KafkaConfig
from streams.kafka.clients import MAX_BACKOFF_MS, OnError, prompt_producer
from streams.kafka.errors import BrokerAway, not_taken
from streams.stage import Headers
from streams.traces.base import NO_TRACES, Traces

DELIVERY_TIMEOUT_S = 3.0
"""After this long without delivery the broker counts as away."""

POLL_S = 0.1


class AsyncProducer:
    """A producer and the thread that polls it. `send` belongs to one event loop."""

    def __init__(
        self, kafka: KafkaConfig, *, on_error: OnError = lambda _: None, traces: Traces = NO_TRACES, **settings: Any
    ):
        """Start the thread.

        on_error  gets the client's connection errors, on another thread
        traces    of the messages
        settings  more settings of librdkafka, with underscores for dots
        """
        self._producer = prompt_producer(
            kafka,
            on_error,
            reconnect_backoff_max_ms=MAX_BACKOFF_MS,
            message_timeout_ms=int(1000 * DELIVERY_TIMEOUT_S),
            allow_auto_create_topics=False,
            **settings,
        )
        self._traces = traces
        self._open = True
        self._thread = threading.Thread(target=self._poll, name="async-producer")
        self._thread.start()

    def send(self, topic: str, value: bytes | None, key: bytes, headers: Headers = ()) -> asyncio.Future[int]:
        """Produce a message; the future is done when the broker has it, and holds its offset.

        BrokerAway when that takes longer than DELIVERY_TIMEOUT_S.
        """
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[int] = loop.create_future()
        sending = self._traces.sending(topic, key)

        def delivered(error: KafkaError | None, message: Message) -> None:
            sending.done(error.str() if error else "", (message.partition() or 0, message.offset() or 0))
            loop.call_soon_threadsafe(_settle, sent, error, message.offset() or 0)

        try:
            self._producer.produce(topic, value, key, on_delivery=delivered, headers=[*headers, *sending.headers])
        except BufferError:
            sent.set_exception(BrokerAway("too many messages wait for Kafka"))
            sending.done("too many messages wait for Kafka")
        except KafkaException as exc:
            sent.set_exception(BrokerAway(not_taken(exc.args[0])))
            sending.done(exc.args[0].str())
        return sent

    def close(self) -> None:
        """Close the connection. Messages not delivered within a second are lost."""
        self._open = False
        self._thread.join()
        self._producer.flush(1.0)

    def _poll(self) -> None:
        while self._open:
            self._producer.poll(POLL_S)


def _settle(sent: asyncio.Future[int], error: KafkaError | None, offset: int) -> None:
    if sent.done():
        return
    if error is None:
        sent.set_result(offset)
    else:
        sent.set_exception(BrokerAway(not_taken(error)))
