"""Announcing images on images.new."""

from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, Message

from imagetools.errors import ImageToolsError
from schemas.codec import codec
from schemas.records import ImageNew
from streams.config import KafkaConfig
from streams.kafka.clients import announcing_producer
from streams.topics import IMAGES_NEW

FLUSH_S = 60.0


class NotDelivered(ImageToolsError):
    """The broker did not take an announcement."""


Told = Callable[[int, str], None]


def _untold(_request_id: int, _path: str) -> None:
    """Nobody waits for verdicts."""


class Announcer:
    """Announces images; its first one takes half a second, in which the broker gives it a number."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._topic = kafka.topic(IMAGES_NEW.name)
        self._encode = codec(kafka.registry).encode
        self._failed: list[str] = []
        self._producer = announcing_producer(kafka)

    def check_registry(self) -> None:
        """Encode a record that nobody gets; RegistryAway before anything is announced."""
        self._encode(self._topic, ImageNew(0, ""))

    def announce(
        self,
        paths: Iterable[str],
        *,
        alert: bool = True,
        gone: bool = False,
        first: int = 1,
        tell: Told = _untold,
    ) -> int:
        """Announce each path, with request ids from `first` on; returns how many once the broker has them all.

        alert  False: compare them with nothing
        gone   the images were removed
        tell   told of each announcement, before it is made
        NotDelivered where the broker did not take one; RegistryAway.
        """
        count = left = 0
        try:
            for request_id, path in enumerate(paths, first):
                value = None if gone else self._encode(self._topic, ImageNew(request_id, path, alert))
                tell(request_id, path)
                self._send(path, value)
                count += 1
                if self._failed:
                    break
        finally:
            # also where `paths` ends with an error: what was announced before it is announced
            left = self._producer.flush(FLUSH_S)
        if self._failed or left:
            raise NotDelivered(self._failed[0] if self._failed else f"{left} were not taken within {FLUSH_S:.0f} s")
        return count

    def _send(self, path: str, value: bytes | None) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, path.encode(), on_delivery=self._delivered)
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed.append(f"{bytes(message.key() or b'').decode()}: {error.str()}")


def announce(
    kafka: KafkaConfig, paths: Iterable[str], *, alert: bool = True, gone: bool = False, first: int = 1
) -> int:
    """Announce each path once; as `Announcer.announce`."""
    return Announcer(kafka).announce(paths, alert=alert, gone=gone, first=first)
