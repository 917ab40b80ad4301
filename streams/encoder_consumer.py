"""images.new → embeddings: compute fingerprint and codes of every new image, and of images in requests."""

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2

from imagetools.errors import ConfigError, ImageError, MessageError, MissingImage, ModelError
from imagetools.features.config import FeatureConfig
from imagetools.features.store import FeatureStore
from imagetools.fingerprint.encoder import Described, Encoder, Prepared
from imagetools.image_root import ImageRoot
from schemas.metadata import metadata_problem
from schemas.records import Embedding, EncodeRequest, ImageNew, Reply, ReplyOutcome, Request
from streams.config import Config
from streams.embeddings_log import check_log, log_model, newest_paths
from streams.encoding import ImageReader, Look, load_encoder, readers_of, to_parts
from streams.feature_store import open_store
from streams.known_images import KnownImages
from streams.requests.protocol import reply_to
from streams.requests.scheduling import BatchSlicer, SliceScheduler
from streams.service import serve
from streams.stage import Figure, Outcome, Output, Received, Stage
from streams.topics import ANNOUNCED_AT, ANNOUNCED_IN, EMBEDDINGS, IMAGES_NEW

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
        features: FeatureConfig | None = None,
        store: FeatureStore | None = None,
    ) -> None:
        """Prepare the threads.

        recorded  returns paths of images that were read before this process started
        features  settings of the features that codes are taken from; those of the matcher
        store     takes the features, for the matcher to find; the stage closes it
        """
        self._encoder = encoder
        self._images = images
        self._reader = ImageReader(encoder, images, features or FeatureConfig(), store)
        self._known = KnownImages(images, recorded)
        self._pool = ThreadPoolExecutor(threads or readers_of(images), "decode")
        # the network takes one batch at a time
        self._scheduler = SliceScheduler()
        self._slicer = BatchSlicer(self._scheduler, self.batch_size)
        # the pool is the parallelism: OpenCV's own threads inside it would only contend
        cv2.setNumThreads(1)

    def run(self, batch: Sequence[Received[ImageNew]]) -> Sequence[Outcome]:
        """Make an embedding of each image, null for each that is gone."""
        outcomes = self._slicer.map(self._encode, batch)
        # once the batch is committed, a matcher soon asks for the features
        self._reader.flush()
        return outcomes

    def _encode(self, batch: Sequence[Received[ImageNew]]) -> Sequence[Outcome]:
        # the threads read on while the network runs
        described = self._encoder.describe(self._pool.map(self._read, batch))
        return [self._outcome(received, one) for received, one in zip(batch, described, strict=True)]

    def _read(self, received: Received[ImageNew]) -> Prepared | ImageError | MessageError | None:
        """Look at an image; None where it is gone."""
        if received.record is None:
            return None
        if problem := metadata_problem(received.record.metadata):
            return MessageError(f"metadata: {problem}")
        try:
            return self._reader.read_file(received.path, self._known.note)
        except ImageError as exc:
            return exc

    def _outcome(
        self, received: Received[ImageNew], described: Described | ImageError | MessageError | None
    ) -> Outcome:
        if isinstance(described, ImageError | MessageError):
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
                described.codes,
                new.metadata,
            )
        announced_in = (ANNOUNCED_IN, str(received.partition).encode())
        announced_at = (ANNOUNCED_AT, str(received.timestamp).encode())
        return (Output(EMBEDDINGS, received.path, embedding, received.timestamp, (announced_in, announced_at)),)

    def inputs_away(self) -> str | None:
        """Say why no image can be read, as where another folder is mounted; None where known images can."""
        return self._known.away()

    def close(self) -> None:
        """End the decoding threads and close the store."""
        self._pool.shutdown()
        self._reader.close()

    def figures(self) -> Iterable[Figure]:
        """Return the model's name."""
        return (Figure("model", "The model of the fingerprints.", 1, labels=(("model", self._encoder.model),)),)

    # requests

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """Compute fingerprint and codes of each requested image."""
        asked = [request for request in requests if isinstance(request, EncodeRequest)]
        with self._scheduler.request():
            looks = list(self._pool.map(self._look_at, asked))
            # threads compute the codes while the network runs
            codes = self._pool.map(lambda look: self._reader.codes_of(look) if isinstance(look, Look) else b"", looks)
            described = self._encoder.describe([look.prepared if isinstance(look, Look) else look for look in looks])
            found = list(codes)
        return [self._reply(*one) for one in zip(asked, described, found, strict=True)]

    def _look_at(self, request: EncodeRequest) -> Look | ImageError:
        try:
            if request.image is not None:
                return self._reader.look_at(request.image, "the image")
            return self._reader.look_at(self._images.read(request.relative_path), request.relative_path)
        except ImageError as exc:
            return exc

    def _reply(self, request: EncodeRequest, described: Described | ImageError, codes: bytes) -> Reply:
        if isinstance(described, ImageError):
            outcome = ReplyOutcome.MISSING if isinstance(described, MissingImage) else ReplyOutcome.REFUSED
            return reply_to(request, outcome, str(described))
        return reply_to(
            request,
            model=self._encoder.model,
            fingerprint=described.fingerprint,
            parts=to_parts(described),
            codes=codes,
        )


def make(config: Config) -> EncoderStage:
    """Make the stage, ready to run; ModelError where the model cannot be used, or is not the log's.

    ConfigError where DIMENSION is not the model's, EMBEDDINGS_TOPIC names no log, or FEATURES_DIR cannot be used.
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
    return EncoderStage(
        encoder,
        ImageRoot(config.images_dir, private=config.images_private),
        recorded=partial(newest_paths, config.kafka),
        features=config.matcher,
        store=open_store(config),
    )


def main(config: Config | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    serve(EncoderStage, make, config)


if __name__ == "__main__":
    main()
