"""Many dead letters in a row: when the messages are to blame, and when something around them is."""

from collections.abc import Sequence
from typing import cast

import pytest
from confluent_kafka import Message

from imagetools.errors import MessageError, MissingImage
from schemas.records import ImageNew
from streams.config import KafkaConfig
from streams.kafka.dead_letter_limit import DeadLetterLimit
from streams.stage import Outcome, Stage
from streams.topics import IMAGES_NEW

DEAD: Outcome = MissingImage("a.jpg", "no such file")
GOOD: Outcome = ()


class Fake(Stage[ImageNew]):
    """A stage whose inputs are away, or not."""

    name, source, kind = "encoder", IMAGES_NEW, ImageNew
    away: str | None = None

    def inputs_away(self) -> str | None:
        return self.away


class FakeMessage:
    """A message by its place."""

    def topic(self) -> str:
        return "images.new"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7


MESSAGE = cast(Message, FakeMessage())


def reason(limit: DeadLetterLimit[ImageNew], outcomes: Sequence[Outcome]) -> str | None:
    return limit.reason_to_wait([MESSAGE] * len(outcomes), outcomes)


@pytest.fixture
def stage() -> Fake:
    return Fake()


def test_below_the_limit_nobody_asks(stage: Fake) -> None:
    stage.away = "the folder is empty"
    limit = DeadLetterLimit(KafkaConfig(), stage, 3)
    assert reason(limit, [DEAD, DEAD, GOOD, DEAD, DEAD]) is None


def test_dead_letters_in_a_row_are_counted_across_batches_that_were_committed(stage: Fake) -> None:
    stage.away = "the folder is empty"
    limit = DeadLetterLimit(KafkaConfig(), stage, 3)
    assert reason(limit, [DEAD, DEAD]) is None
    assert reason(limit, [DEAD]) is None, "the batch before was not committed"
    limit.committed([GOOD, DEAD, DEAD])
    assert reason(limit, [DEAD, GOOD]) == (
        "3 dead letters in a row, the last: a.jpg: no such file; the folder is empty. "
        "DEAD_LETTER_LIMIT=0 sets them aside all the same"
    )


def test_where_known_inputs_are_good_the_messages_are_to_blame(stage: Fake) -> None:
    assert reason(DeadLetterLimit(KafkaConfig(), stage, 3), [DEAD] * 9) is None


def test_where_a_message_of_the_partition_was_read_the_others_are_to_blame(stage: Fake) -> None:
    stage.away = "not asked"
    limit = DeadLetterLimit(KafkaConfig(), stage, 3)
    limit.note_readable(MESSAGE)
    assert reason(limit, [MessageError("has no key")] * 3) is None


def test_without_a_limit_nothing_waits(stage: Fake) -> None:
    stage.away = "the folder is empty"
    assert reason(DeadLetterLimit(KafkaConfig(), stage, 0), [DEAD] * 1000) is None
