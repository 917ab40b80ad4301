"""Writes and reads dead letters: messages that a stage sets aside, with origin and reason in added headers."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Message

from imagetools.errors import ImageToolsError, MessageError
from schemas.codec import Codec
from schemas.records import Verdict, VerdictOutcome
from streams.kafka.messages import coordinates, headers, path_of
from streams.kafka.transactional_producer import TransactionalProducer
from streams.stage import Headers, Outcome, Output, Received, Stage
from streams.topics import DEAD_LETTERS, VERDICTS
from streams.traces.base import BatchTrace

log = logging.getLogger(__name__)

MAX_DEAD_LETTER_BYTES = 64 * 1024
MAX_REASON_CHARS = 2000

ORIGIN = ("stage", "topic", "partition", "offset", "error-type", "error-message")
"""Headers that a dead letter has besides the message's own."""


class DeadLetterWriter:
    """Writes dead letters within the producer's current transaction."""

    def __init__(self, producer: TransactionalProducer, stage: Stage[Any], codec: Codec) -> None:
        self._producer = producer
        self._stage = stage
        self._codec = codec

    def write(
        self, message: Message, received: Received[Any] | MessageError, reason: ImageToolsError, passed: Headers
    ) -> None:
        """Send a message to the topic dead-letters, and a verdict if the stage gives any and the image is known.

        Key and value stay as they came, but for a value that the stage replaces, and one over MAX_DEAD_LETTER_BYTES,
        which is cut.
        passed  the message's headers, with its place in a trace, if any
        """
        text = str(reason)[:MAX_REASON_CHARS]
        name = type(reason).__name__
        origin = (self._stage.name, message.topic(), message.partition(), message.offset(), name, text)
        why = tuple((header, str(value).encode()) for header, value in zip(ORIGIN, origin, strict=True))
        key, value = message.key(), self._value(message, received)
        self._producer.send_raw(
            DEAD_LETTERS.name,
            None if key is None else bytes(key),
            None if value is None else bytes(value)[:MAX_DEAD_LETTER_BYTES],
            (*passed, *why),
        )
        if not self._stage.gives_verdicts:
            return
        request_id, path = self._announcement(message, received)
        if path is not None:
            verdict = Verdict(request_id, path, VerdictOutcome.DEAD_LETTER, f"{name}: {text}")
            self._producer.send(Output(VERDICTS, path, verdict), passed)

    def _value(self, message: Message, received: Received[Any] | MessageError) -> bytes | None:
        own = self._stage.letter(received) if isinstance(received, Received) else None
        return message.value() if own is None else self._codec.encode(message.topic() or "", own)

    def log(self, batch: Sequence[Message], outcomes: Sequence[Outcome], trace: BatchTrace) -> None:
        """Log the dead letters of a batch."""
        for number, (message, outcome) in enumerate(zip(batch, outcomes, strict=True)):
            if isinstance(outcome, ImageToolsError):
                place = f"{message.topic()} partition {message.partition()} offset {message.offset()}"
                extra = coordinates(message) | {"error_type": type(outcome).__name__} | trace.log_fields(number)
                log.warning("%s: dead letter (%s): %s", self._stage.name, place, outcome, extra=extra)

    def _announcement(self, message: Message, received: Received[Any] | MessageError) -> tuple[int | None, str | None]:
        """Return the announcement's request id and path, from the record, or the path alone, from the key."""
        if isinstance(received, Received) and received.record is not None:
            return received.record.request_id, received.path
        value = message.value()
        if value is not None:
            try:
                record = self._codec.decode(message.topic() or "", self._stage.kind, value)
                return record.request_id, path_of(record)
            except MessageError:
                log.debug("no record to name the announcement: going by the key")
        try:
            return None, bytes(message.key() or b"").decode() or None
        except UnicodeDecodeError:
            return None, None


def read_dead_letter(message: Message) -> dict[str, str]:
    """Return a dead letter's path, reason, origin and time, from its key and headers."""
    found = {name: (value or b"").decode("utf-8", "replace") for name, value in headers(message)}
    key = message.key()
    path = bytes(key).decode("utf-8", "replace") if key is not None else ""
    time = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC).isoformat(timespec="milliseconds")
    letter = {"relative_path": path} | {name.replace("-", "_"): found.get(name, "") for name in ORIGIN}
    return letter | {"time": time}
