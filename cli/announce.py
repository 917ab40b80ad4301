"""Announcing images on images.new."""

from collections.abc import Iterable

from confluent_kafka import KafkaError, Message, Producer

from imagetools.errors import ImageToolsError
from schemas.codec import codec
from schemas.records import ImageNew
from streams.config import KafkaConfig
from streams.topics import IMAGES_NEW

FLUSH_S = 60.0


class NotDelivered(ImageToolsError):
    """The broker did not take an announcement."""


def announce(
    kafka: KafkaConfig, paths: Iterable[str], *, alert: bool = True, gone: bool = False, first: int = 1
) -> int:
    """Announce each path, with request ids from `first` on; returns how many once the broker has them all.

    gone  the images were removed
    NotDelivered where the broker did not take one.
    """
    topic = kafka.topic(IMAGES_NEW.name)
    encode = codec(kafka.registry).encode
    failed: list[str] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failed.append(f"{bytes(message.key() or b'').decode()}: {error.str()}")

    # Java's default partitioner: one path, one partition, whoever announces it
    producer = Producer(kafka.client(partitioner="murmur2_random", enable_idempotence=True, linger_ms=5))
    count = 0
    for count, path in enumerate(paths, 1):
        value = None if gone else encode(topic, ImageNew(first + count - 1, path, alert))
        while True:
            try:
                producer.produce(topic, value, path.encode(), on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        if failed:
            break
    left = producer.flush(FLUSH_S)
    if failed or left:
        raise NotDelivered(failed[0] if failed else f"{left} announcements were not taken within {FLUSH_S:.0f} s")
    return count
