"""Partitions that are paused for two reasons: what is being restored is not read because inputs are back."""

from collections.abc import Iterator
from typing import Any, cast

from confluent_kafka import Consumer, TopicPartition

from schemas.records import ImageNew
from streams.config import KafkaConfig
from streams.kafka.partitions import Partitions
from streams.stage import Stage
from streams.topics import IMAGES_NEW

ASSIGNED = [TopicPartition("images.new", number, 7) for number in (0, 1)]


class RecordedConsumer:
    """What a consumer was asked to read and not to read."""

    def __init__(self) -> None:
        self.paused: set[int] = set()

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        self.on_assign = callbacks["on_assign"]

    def assignment(self) -> list[TopicPartition]:
        return ASSIGNED

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return partitions

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        assert partitions == ASSIGNED

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused |= {part.partition for part in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.paused -= {part.partition for part in partitions}


class Restored(Stage[ImageNew]):
    """Restores partition 1 in two steps; partition 0 has nothing to restore."""

    name, source, kind = "encoder", IMAGES_NEW, ImageNew

    def restore(self, partition: int, offset: int, note: str = "") -> Iterator[str] | None:
        return iter(["half", "all"]) if partition else None


def assigned() -> tuple[RecordedConsumer, Partitions]:
    consumer = RecordedConsumer()
    partitions = Partitions(cast(Consumer, consumer), KafkaConfig(), Restored(), lambda _lost: None)
    partitions.subscribe()
    consumer.on_assign(consumer, ASSIGNED)
    assert consumer.paused == {1}
    return consumer, partitions


def test_what_is_being_restored_stays_paused_when_inputs_are_back():
    consumer, partitions = assigned()
    partitions.restore_step()
    partitions.pause()
    partitions.resume()
    assert consumer.paused == {1}
    partitions.restore_step()
    partitions.restore_step()
    assert not partitions.restoring
    assert consumer.paused == set()


def test_what_was_restored_stays_paused_while_inputs_are_away():
    consumer, partitions = assigned()
    partitions.pause()
    for _ in range(3):
        partitions.restore_step()
    assert not partitions.restoring
    assert consumer.paused == {0, 1}
    partitions.resume()
    assert consumer.paused == set()
