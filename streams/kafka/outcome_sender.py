"""Sends what a batch has come to: the outputs of each message, or its dead letter."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from confluent_kafka import Message

from imagetools.errors import ImageToolsError, MessageError
from schemas.codec import Codec
from streams.kafka.dead_letters import DeadLetterWriter
from streams.kafka.messages import headers
from streams.kafka.transactional_producer import TransactionalProducer
from streams.stage import Outcome, Received, Stage
from streams.traces.base import BatchTrace


class OutcomeSender:
    """Sends within the producer's current transaction."""

    def __init__(self, producer: TransactionalProducer, stage: Stage[Any], codec: Codec) -> None:
        self._producer = producer
        self._stage = stage
        self._dead_letters = DeadLetterWriter(producer, stage, codec)

    def send(
        self,
        batch: Sequence[Message],
        received: Sequence[Received[Any] | MessageError],
        outcomes: Sequence[Outcome],
        trace: BatchTrace,
    ) -> None:
        """Send the outcome of each message, with the headers that follow from it. RegistryAway, KafkaException."""
        for number, (message, one, outcome) in enumerate(zip(batch, received, outcomes, strict=True)):
            if isinstance(outcome, ImageToolsError):
                self._dead_letters.write(message, one, outcome, trace.onward(number, headers(message)))
            elif self._stage.passes_headers:
                passed = trace.onward(number, headers(message))
                for output in outcome:
                    self._producer.send(output, passed)
            else:
                for output in outcome:
                    own = trace.onward(number, output.headers, always=False)
                    self._producer.send(output if own is output.headers else replace(output, headers=own), ())

    def log(self, batch: Sequence[Message], outcomes: Sequence[Outcome], trace: BatchTrace) -> None:
        """Log the dead letters of a batch."""
        self._dead_letters.log(batch, outcomes, trace)
