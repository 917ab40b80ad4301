"""images.new → embeddings: give every new image its fingerprint."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import numpy as np
import numpy.typing as npt
from platformdirs import user_cache_path

from imagetools.decode import ImageRoot, decode
from imagetools.errors import ImageError
from imagetools.fingerprint import Encoder, EncoderConfig
from schemas.records import Embedding, ImageNew
from streams.config import Config
from streams.service import serve
from streams.stage import Outcome, Output, Received, Stage
from streams.topics import ANNOUNCED_IN, EMBEDDINGS, IMAGES_NEW

log = logging.getLogger(__name__)


class EncoderStage(Stage[ImageNew]):
    """Fingerprints each image; one that cannot be read becomes its ImageError, in place."""

    name = "encoder"
    source = IMAGES_NEW
    kind = ImageNew
    tombstones = True

    def __init__(self, encoder: Encoder, images: ImageRoot, threads: int | None = None) -> None:
        self._encoder = encoder
        self._images = images
        self._pool = ThreadPoolExecutor(threads or cpu_count() or 1, "decode")

    def run(self, batch: Sequence[Received[ImageNew]]) -> Sequence[Outcome]:
        """An embedding for each image, null for each that is gone."""
        read: list[tuple[bytes, npt.NDArray[np.uint8]] | ImageError | None] = []

        def prepared() -> Iterator[npt.NDArray[np.uint8]]:
            for one in self._pool.map(self._read, batch):
                read.append(one)
                if isinstance(one, tuple):
                    yield one[1]

        # the threads read on while the network runs
        fingerprints = iter(self._encoder.encode_prepared(prepared()))
        outcomes: list[Outcome] = []
        for received, one in zip(batch, read, strict=True):
            if isinstance(one, ImageError):
                outcomes.append(one)
                continue
            embedding = None
            if received.record is not None and one is not None:
                new = received.record
                model, digest = self._encoder.model, one[0]
                embedding = Embedding(new.request_id, received.path, next(fingerprints), model, digest, new.alert)
            origin = ((ANNOUNCED_IN, str(received.partition).encode()),)
            outcomes.append((Output(EMBEDDINGS, received.path, embedding, received.timestamp, origin),))
        return outcomes

    def close(self) -> None:
        """End the decoding threads."""
        self._pool.shutdown()

    def _read(self, received: Received[ImageNew]) -> tuple[bytes, npt.NDArray[np.uint8]] | ImageError | None:
        """Digest and pixels; None where the image is gone."""
        if received.record is None:
            return None
        side = self._encoder.config.input_size
        try:
            data = self._images.read(received.path)
            image = decode(data, received.path, box=(side, side), config=self._images.config)
            return hashlib.sha256(data).digest(), self._encoder.prepare(image)
        except ImageError as exc:
            return exc


def make(config: Config) -> EncoderStage:
    """The stage, ready to run; ModelError where the model cannot be used."""
    encoder = Encoder.load(
        EncoderConfig(
            config.models_name,
            config.models_dir,
            engine=config.engine,
            threads=config.encoder_threads,
            kept=user_cache_path("imagetools"),
        )
    )
    log.info("encoder: %s on %s", encoder.model, encoder.engine.name)
    return EncoderStage(encoder, ImageRoot(config.images_dir))


def main(config: Config | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    serve(make, config)


if __name__ == "__main__":
    main()
