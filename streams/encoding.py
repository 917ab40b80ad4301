"""What the encoder and the reencoder share: the model, and one look at each image for all that is wanted of it."""

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from PIL import Image
from platformdirs import user_cache_path

from imagetools.decode import decode_frames
from imagetools.errors import ImageError
from imagetools.features.config import FeatureConfig
from imagetools.features.extract import Features
from imagetools.features.local_codes import local_codes
from imagetools.features.read import box_of, features_of
from imagetools.features.store import FeatureStore
from imagetools.fingerprint.config import EncoderConfig
from imagetools.fingerprint.encoder import Described, Encoder, Prepared
from imagetools.hardware import usable_cores
from imagetools.image_root import ImageRoot
from imagetools.local_codes import pack_codes
from schemas.records import Part
from streams.config import Config

log = logging.getLogger(__name__)

FLUSH_S: Final = 1.0
"""How long a batch waits for its features to be written; longer waits mean that the disk is stuck."""

KEPT_PIXELS: Final = 4_000_000
"""Pixels of all frames of an image up to which they wait for the codes, 12 MB; of a larger one, the codes are computed
at once, so that a batch of huge images does not fill the memory."""


def readers_of(images: ImageRoot) -> int:
    """Return how many threads read files: storage may be slow. No more of them compute than there are cores."""
    return max(images.readers, usable_cores())


def load_encoder(config: Config) -> Encoder:
    """Load the encoder that the settings name. ModelError."""
    return Encoder.load(
        EncoderConfig(
            config.models_name,
            config.models_dir,
            engine=config.engine,
            threads=config.encoder_threads,
            kept=user_cache_path("imagetools"),
        )
    )


def to_parts(described: Described) -> tuple[Part, ...]:
    """Convert the later frames of an animation to the record's parts: each is the whole picture, at another time."""
    return tuple(Part(0.0, 0.0, 1.0, 1.0, row) for row in described.later)


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """An image file, decoded once.

    name      of the image, for errors
    frames    that stand for it, RGB, no smaller than the network's input and the features' box where it has as much
    prepared  ready for the network
    codes     of the local detail, packed, once they are computed: the data and the frames are then dropped
    """

    data: bytes
    name: str
    frames: Sequence[Image.Image]
    prepared: Prepared
    codes: bytes | None = None


class ImageReader:
    """Reads and decodes each image once, for its fingerprint and its features. Thread-safe.

    The features are those that the matcher computes of the same file by the same settings, bit for bit.
    """

    def __init__(
        self, encoder: Encoder, images: ImageRoot, features: FeatureConfig, store: FeatureStore | None = None
    ) -> None:
        """store: takes the features of the files that are read, for the matcher; None: they are not kept."""
        self._encoder = encoder
        self._images = images
        self._features = features
        self._store = store
        self._cores = threading.BoundedSemaphore(usable_cores())
        # a picture decoded for a larger box has other pixels than the matcher's
        self._one_serves_both = min(features.box) >= encoder.config.input_size

    def read_file(self, path: str, on_read: Callable[[str], None] | None = None) -> Prepared:
        """Read an image file, ready for the network, with its digest and codes.

        on_read  called with the path once the file is read, before it is decoded
        ImageError, ImageRootUnavailable.
        """
        data, state = self._images.read_with_state(path)
        if on_read is not None:
            on_read(path)
        with self._cores:
            look = self._look_at(data, path)
            features = self._features_of(look)
            digest, codes = hashlib.sha256(data).digest(), _packed(features)
        if self._store is not None and features is not None and state is not None:
            self._store.put(self._images, path, state, features)
        return replace(look.prepared, digest=digest, codes=codes)

    def look_at(self, data: bytes, name: str) -> Look:
        """Decode an image file and prepare it for the network; of a large one, compute the codes. ImageError."""
        with self._cores:
            look = self._look_at(data, name)
            if sum(frame.width * frame.height for frame in look.frames) <= KEPT_PIXELS:
                return look
            return replace(look, data=b"", frames=(), codes=_packed(self._features_of(look)))

    def codes_of(self, look: Look) -> bytes:
        """Return the codes of an image's local detail, as records hold them."""
        if look.codes is not None:
            return look.codes
        with self._cores:
            return _packed(self._features_of(look))

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()

    def flush(self) -> None:
        """Wait until the store has what it was given, but not for long: the matcher computes what it does not find."""
        if self._store is not None:
            self._store.flush(FLUSH_S)

    def _look_at(self, data: bytes, name: str) -> Look:
        side = self._encoder.config.input_size
        box = box_of(self._features) if self._one_serves_both else (side, side)
        frames = decode_frames(data, name, box=box, config=self._images.config)
        return Look(data, name, frames, self._encoder.read(data, name, self._images.config, frames=frames))

    def _features_of(self, look: Look) -> Features | None:
        """Return the features; None where the image cannot be decoded again, which the matcher then reports."""
        frames = look.frames
        if not self._one_serves_both:
            try:
                frames = decode_frames(look.data, look.name, box=box_of(self._features), config=self._images.config)
            except ImageError as exc:
                log.warning("no codes: %s", exc)
                return None
        return features_of(frames, self._features)


def _packed(features: Features | None) -> bytes:
    return b"" if features is None else pack_codes(local_codes(features))
