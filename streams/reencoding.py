"""embeddings → a second log: the fingerprint of every image anew, by another model.

Silent: what is written alerts nobody, since search has looked at it in the first log.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os import cpu_count

from imagetools.decode import ImageRoot
from imagetools.errors import ConfigError, ImageError
from imagetools.fingerprint.encoder import Described, Encoder, Prepared
from schemas.records import Embedding
from streams.encoding import to_parts
from streams.stage import Outcome, Output, Received, Stage
from streams.topics import EMBEDDINGS, Topic

log = logging.getLogger(__name__)


class ReencoderStage(Stage[Embedding]):
    """Follows the log; an image that can no longer be read is no longer in the second one, with a warning.

    left_out  how many those were
    """

    source = EMBEDDINGS
    kind = Embedding
    tombstones = True

    def __init__(self, encoder: Encoder, images: ImageRoot, target: Topic, *, limit: int = 0) -> None:
        """limit: so many images in a row that cannot be read are the folder's fault, a ConfigError; 0: never."""
        self.name = stage_name(target)
        self._encoder = encoder
        self._images = images
        self._target = target
        self._limit = limit
        self._unread = 0
        self.left_out = 0
        self._pool = ThreadPoolExecutor(cpu_count() or 1, "decode")

    def run(self, batch: Sequence[Received[Embedding]]) -> Sequence[Outcome]:
        """Each record with another fingerprint; removals as they are."""
        described = self._encoder.describe(self._pool.map(self._read, batch))
        outcomes: list[Outcome] = []
        for received, one in zip(batch, described, strict=True):
            if isinstance(one, ImageError):
                log.warning("left out: %s", one)
                self._count(one)
            embedding = None
            if received.record is not None and isinstance(one, Described):
                self._unread = 0
                # the digest stays that of the announcement: bytes that have changed since are news when announced
                embedding = replace(
                    received.record,
                    fingerprint=one.fingerprint,
                    model=self._encoder.model,
                    alert=False,
                    parts=to_parts(one),
                )
            outcomes.append((Output(self._target, received.path, embedding, received.timestamp),))
        return outcomes

    def close(self) -> None:
        """End the decoding threads."""
        self._pool.shutdown()

    def _count(self, error: ImageError) -> None:
        self.left_out += 1
        self._unread += 1
        if self._limit and self._unread >= self._limit:
            raise ConfigError(
                f"{self._unread} images in a row cannot be read, the last: {error}. Is IMAGES_DIR right? "
                f"Those are missing from {self._target.name} now: begin anew with another name for it"
            )

    def _read(self, received: Received[Embedding]) -> Prepared | ImageError | None:
        if received.record is None:
            return None
        try:
            return self._encoder.read(self._images.read(received.path), received.path, self._images.config)
        except ImageError as exc:
            return exc


def second_log(name: str) -> Topic:
    """A log as the first one is kept."""
    return replace(EMBEDDINGS, name=name)


def stage_name(target: Topic) -> str:
    """The stage's, and so its group's: each second log has a reader of its own."""
    return f"reencoder.{target.name}"
