"""Tells bad messages from another fault that makes them look bad, such as a missing folder of images."""

from collections.abc import Sequence
from typing import Generic, cast

from confluent_kafka import Message

from imagetools.errors import ImageToolsError, MessageError
from schemas.codec import R
from streams.config import KafkaConfig
from streams.kafka.log_reader import LogReader
from streams.kafka.messages import Place, place_of
from streams.stage import Outcome, Stage

LOOK_BACK = 200
"""How many offsets before a message are searched for one that can be read."""

OVERRIDE = "DEAD_LETTER_LIMIT=0 sets them aside all the same"


class DeadLetterLimit(Generic[R]):
    """Counts a stage's dead letters in a row, and from a limit on checks whether the messages are to blame."""

    def __init__(self, kafka: KafkaConfig, stage: Stage[R], limit: int) -> None:
        """limit: dead letters in a row; 0: never check."""
        self._kafka = kafka
        self._stage = stage
        self._limit = limit
        self._in_a_row = 0
        self._readable: set[Place] = set()

    def note_readable(self, message: Message) -> None:
        """Remember that messages of this partition can be read."""
        self._readable.add(place_of(message))

    def reason_to_wait(self, batch: Sequence[Message], outcomes: Sequence[Outcome]) -> str | None:
        """Return why the batch must not become dead letters yet; None when it may."""
        longest = max(self._counts(outcomes))
        if not self._limit or longest < self._limit:
            return None
        errors = [outcome for outcome in outcomes if isinstance(outcome, ImageToolsError)]
        doubt = self._doubt(batch, errors)
        return doubt and f"{longest} dead letters in a row, the last: {errors[-1]}; {doubt}"

    def committed(self, outcomes: Sequence[Outcome]) -> None:
        """Count on from the end of a batch, now that it is committed."""
        self._in_a_row = self._counts(outcomes)[-1]

    def _counts(self, outcomes: Sequence[Outcome]) -> list[int]:
        """For each message, the number of dead letters in a row that end with it."""
        counts, dead = [], self._in_a_row
        for outcome in outcomes:
            dead = dead + 1 if isinstance(outcome, ImageToolsError) else 0
            counts.append(dead)
        return counts

    def _doubt(self, batch: Sequence[Message], errors: Sequence[ImageToolsError]) -> str | None:
        """Return what else may be to blame; None when the messages are.

        The messages are to blame if other inputs can be read, so no client stops a stage by announcing nonsense.
        """
        if all(isinstance(error, MessageError) for error in errors):
            return self._unreadable(batch[0])
        away = self._stage.inputs_away()
        return away and f"{away}. {OVERRIDE}"

    def _unreadable(self, message: Message) -> str | None:
        """Return why no message of the partition can be read, or None. Often only one side uses a schema registry."""
        place, offset = place_of(message), message.offset() or 0
        if place in self._readable:
            return None
        topic, partition = place
        inputs = (self._stage.source, *self._stage.also)
        source = next(one for one in inputs if self._kafka.topic(one.name) == topic)
        reader = LogReader(self._kafka, source.name, cast("type[R]", source.kind), partition)
        try:
            if any(received for received in reader.read(max(0, offset - LOOK_BACK), offset)):
                self._readable.add(place)
                return None
        finally:
            reader.close()
        return (
            f"no earlier message of {topic} partition {partition} can be read either: is SCHEMA_REGISTRY_URL the "
            f"producers' own? {OVERRIDE}"
        )
