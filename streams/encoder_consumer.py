"""images.new → embeddings: compute the fingerprint of every new image, and of images in requests."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import cpu_count

from imagetools.errors import ConfigError, ImageError, MissingImage, ModelError
from imagetools.fingerprint.encoder import Described, Encoder, Prepared
from imagetools.image_root import ImageRoot
from imagetools.paths import shown
from schemas.records import Embedding, EncodeRequest, ImageNew, Reply, ReplyOutcome, Request
from streams.config import Config
from streams.embeddings_log import check_log, log_model, newest_paths
from streams.encoding import load_encoder, to_parts
from streams.known_images import KnownImages
from streams.requests.protocol import reply_to
from streams.requests.scheduling import BatchSlicer, SliceScheduler
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
    answer_batch = 16
    reads_images = True

    def __init__(
        self,
        encoder: Encoder,
        images: ImageRoot,
        threads: int | None = None,
        *,
        recorded: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """`recorded` returns paths of images that were read before this process started."""
        self._encoder = encoder
        self._images = images
        self._known = KnownImages(images, recorded)
        self._pool = ThreadPoolExecutor(threads or cpu_count() or 1, "decode")
        # the network takes one batch at a time
        self._scheduler = SliceScheduler()
        self._slicer = BatchSlicer(self._scheduler, self.batch_size)

    def run(self, batch: Sequence[Received[ImageNew]]) -> Sequence[Outcome]:
        """Make an embedding of each image, null for each that is gone."""
        return self._slicer.map(self._encode, batch)

    def _encode(self, batch: Sequence[Received[ImageNew]]) -> Sequence[Outcome]:
        # the threads read on while the network runs
        described = self._encoder.describe(self._pool.map(self._read, batch))
        return [self._outcome(received, one) for received, one in zip(batch, described, strict=True)]

    def _read(self, received: Received[ImageNew]) -> Prepared | ImageError | None:
        """Read and decode an image; None where it is gone."""
        if received.record is None:
            return None
        try:
            data = self._images.read(received.path)
            self._known.note(received.path)
            digest = hashlib.sha256(data).digest()
            return self._encoder.read(data, received.path, self._images.config, digest=digest)
        except ImageError as exc:
            return exc

    def _outcome(self, received: Received[ImageNew], described: Described | ImageError | None) -> Outcome:
        if isinstance(described, ImageError):
            return described
        embedding, new = None, received.record
        if new is not None and described is not None:
            embedding = Embedding(
                new.request_id,
                received.path,
                described.fingerprint,
                self._encoder.model,
                described.digest,
                new.alert,
                to_parts(described),
            )
        announced_in = (ANNOUNCED_IN, str(received.partition).encode())
        return (Output(EMBEDDINGS, received.path, embedding, received.timestamp, (announced_in,)),)

    def inputs_away(self) -> str | None:
        """Say why no image can be read, as where another folder is mounted; None where known images can."""
        return self._known.away()

    def close(self) -> None:
        """End the decoding threads."""
        self._pool.shutdown()

    # requests

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """Compute the fingerprint of each requested image."""
        asked = [request for request in requests if isinstance(request, EncodeRequest)]
        with self._scheduler.request():
            described = self._encoder.describe(list(self._pool.map(self._read_requested, asked)))
        return [self._reply(request, one) for request, one in zip(asked, described, strict=True)]

    def _read_requested(self, request: EncodeRequest) -> Prepared | ImageError:
        try:
            if request.image is not None:
                return self._encoder.read(request.image, "the image", self._images.config)
            data = self._images.read(request.relative_path)
            return self._encoder.read(data, shown(request.relative_path), self._images.config)
        except ImageError as exc:
            return exc

    def _reply(self, request: EncodeRequest, described: Described | ImageError) -> Reply:
        if isinstance(described, ImageError):
            outcome = ReplyOutcome.MISSING if isinstance(described, MissingImage) else ReplyOutcome.REFUSED
            return reply_to(request, outcome, str(described))
        return reply_to(
            request, model=self._encoder.model, fingerprint=described.fingerprint, parts=to_parts(described)
        )


def make(config: Config) -> EncoderStage:
    """Make the stage, ready to run; ModelError where the model cannot be used, or is not the log's.

    ConfigError where DIMENSION is not the model's, or EMBEDDINGS_TOPIC names no log.
    """
    encoder = load_encoder(config)
    if config.dimension not in (None, encoder.dimension):
        raise ConfigError(
            f"DIMENSION is {config.dimension}, and MODELS_NAME gives {config.models_name}, whose fingerprints have "
            f"{encoder.dimension} numbers: unset DIMENSION"
        )
    check_log(config)
    known = log_model(config.kafka)
    if known not in (None, encoder.model):
        raise ModelError(
            f"MODELS_NAME gives {encoder.model}, and {config.kafka.topic(EMBEDDINGS.name)} holds those of {known}: "
            "fingerprints of two models cannot be compared; `imagetools reencode` moves a collection to another model"
        )
    log.info("encoder: %s on %s", encoder.model, encoder.engine.name)
    return EncoderStage(encoder, ImageRoot(config.images_dir), recorded=partial(newest_paths, config.kafka))


def main(config: Config | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    serve(EncoderStage, make, config)


if __name__ == "__main__":
    main()
