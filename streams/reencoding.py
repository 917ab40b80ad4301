"""embeddings → a second log: recompute fingerprint and codes of every image, with another model.

The new records are silent, since search has seen their images in the first log.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2

from imagetools.errors import ConfigError, ImageError
from imagetools.features.config import FeatureConfig
from imagetools.fingerprint.encoder import Described, Encoder, Prepared
from imagetools.image_root import ImageRoot
from schemas.records import Embedding
from streams.encoding import ImageReader, readers_of, to_parts
from streams.sharding.marks import is_key
from streams.stage import Outcome, Output, Received, Stage
from streams.topics import EMBEDDINGS, Topic

log = logging.getLogger(__name__)


class ReencoderStage(Stage[Embedding]):
    """Copies the log with other fingerprints. An image that can no longer be read is left out, with a warning.

    left_out  how many images
    """

    source = EMBEDDINGS
    kind = Embedding
    tombstones = True

    def __init__(
        self,
        encoder: Encoder,
        images: ImageRoot,
        target: Topic,
        *,
        limit: int = 0,
        features: FeatureConfig | None = None,
    ) -> None:
        """Prepare the threads.

        limit     when this many images in a row cannot be read, the folder is at fault, a ConfigError; 0: never
        features  settings of the features that codes are taken from; those of the matcher
        """
        self.name = stage_name(target)
        self._encoder = encoder
        self._reader = ImageReader(encoder, images, features or FeatureConfig())
        self._target = target
        self._limit = limit
        self._unread = 0
        self.left_out = 0
        self._pool = ThreadPoolExecutor(readers_of(images), "decode")
        # the pool is the parallelism: OpenCV's own threads inside it would only contend
        cv2.setNumThreads(1)

    def run(self, batch: Sequence[Received[Embedding]]) -> Sequence[Outcome]:
        """Give each record another fingerprint; removals stay as they are, and marks of shards are left out."""
        described = self._encoder.describe(self._pool.map(self._read, batch))
        return [self._outcome(received, one) for received, one in zip(batch, described, strict=True)]

    def _read(self, received: Received[Embedding]) -> Prepared | ImageError | None:
        if received.record is None:
            return None
        try:
            return self._reader.read_file(received.path)
        except ImageError as exc:
            return exc

    def _outcome(self, received: Received[Embedding], described: Described | ImageError | None) -> Outcome:
        if is_key(received.path):
            return ()
        embedding = None
        if isinstance(described, ImageError):
            self._leave_out(described)
        elif received.record is not None and described is not None:
            self._unread = 0
            # the digest of the announcement stays: bytes that have changed since are news once they are announced
            embedding = replace(
                received.record,
                fingerprint=described.fingerprint,
                model=self._encoder.model,
                alert=False,
                parts=to_parts(described),
                codes=described.codes,
            )
        return (Output(self._target, received.path, embedding, received.timestamp),)

    def _leave_out(self, error: ImageError) -> None:
        log.warning("left out: %s", error)
        self.left_out += 1
        self._unread += 1
        if self._limit and self._unread >= self._limit:
            raise ConfigError(
                f"{self._unread} images in a row cannot be read, the last: {error}. Is IMAGES_DIR right? "
                f"They are missing from {self._target.name} now: start again with another name for it"
            )

    def close(self) -> None:
        """End the decoding threads."""
        self._pool.shutdown()


def second_log(name: str) -> Topic:
    """Make the topic of a second log, kept as the first one is."""
    return replace(EMBEDDINGS, name=name)


def stage_name(target: Topic) -> str:
    """Name the stage that fills a second log, and so its group: each log has its own."""
    return f"reencoder.{target.name}"
