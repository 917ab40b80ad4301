"""Announce images on images.new."""

from collections.abc import Callable, Iterable
from functools import partial

from confluent_kafka import KafkaError, Message

from cli.announcing.sources import NamedImage
from imagetools.errors import ImageToolsError
from schemas.codec import codec
from schemas.records import ImageNew
from streams.config import KafkaConfig
from streams.kafka.clients import announcing_producer
from streams.topics import IMAGES_NEW
from streams.traces.base import NO_TRACES, Sending, Traces

FLUSH_S = 60.0


class NotDelivered(ImageToolsError):
    """The broker did not take an announcement."""


OnAnnounced = Callable[[int, str], None]
OnDelivered = Callable[[Message], None]


def _ignore(_request_id: int, _path: str) -> None:
    """Do nothing: nobody waits for verdicts."""


def _ignore_message(_message: Message) -> None:
    """Do nothing: nobody asks where announcements went."""


class Announcer:
    """Announces images. The first announcement takes half a second, in which the broker assigns a producer id."""

    def __init__(self, kafka: KafkaConfig, *, traces: Traces = NO_TRACES) -> None:
        """traces: of the announcements."""
        self._traces = traces
        self._topic = kafka.topic(IMAGES_NEW.name)
        self._encode = codec(kafka.registry).encode
        self._failed: list[str] = []
        self._on_delivered: OnDelivered = _ignore_message
        self._producer = announcing_producer(kafka)

    def check_registry(self) -> None:
        """Encode a record without sending it, so that RegistryAway is raised before anything is announced."""
        self._encode(self._topic, ImageNew(0, ""))

    def announce(
        self,
        images: Iterable[NamedImage],
        *,
        alert: bool = True,
        gone: bool = False,
        first: int = 1,
        on_announced: OnAnnounced = _ignore,
        on_delivered: OnDelivered = _ignore_message,
    ) -> int:
        """Announce each image, with request ids from `first` on; return their number once the broker has them all.

        alert         False: compare them with nothing
        gone          the images were removed
        on_announced  called with each announcement, before it is made
        on_delivered  called with each message that the broker has taken
        NotDelivered if the broker refuses one; RegistryAway.
        """
        count = left = 0
        self._on_delivered = on_delivered
        try:
            for request_id, (path, metadata) in enumerate(images, first):
                value = None if gone else self._encode(self._topic, ImageNew(request_id, path, alert, metadata))
                on_announced(request_id, path)
                self._send(path, value)
                count += 1
                if self._failed:
                    break
        finally:
            # if `images` ends with an error, what came before it is announced nevertheless
            left = self._producer.flush(FLUSH_S)
        if self._failed or left:
            raise NotDelivered(self._failed[0] if self._failed else f"{left} were not taken within {FLUSH_S:.0f} s")
        return count

    def _send(self, path: str, value: bytes | None) -> None:
        key = path.encode()
        sending = self._traces.sending(self._topic, key)
        delivered = partial(self._delivered, sending)
        while True:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=delivered, headers=list(sending.headers))
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)

    def _delivered(self, sending: Sending, error: KafkaError | None, message: Message) -> None:
        sending.done(error.str() if error else "", (message.partition() or 0, message.offset() or 0))
        if error is not None:
            self._failed.append(f"{bytes(message.key() or b'').decode()}: {error.str()}")
        else:
            self._on_delivered(message)


def announce(
    kafka: KafkaConfig, paths: Iterable[str], *, alert: bool = True, gone: bool = False, first: int = 1
) -> int:
    """Announce each path once; as `Announcer.announce`."""
    return Announcer(kafka).announce(map(NamedImage, paths), alert=alert, gone=gone, first=first)
