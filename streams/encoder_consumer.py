"""images.new → embeddings: give every new image its fingerprint, and whoever asks one for an image of theirs."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import cpu_count

from imagetools.decode import ImageRoot
from imagetools.errors import ConfigError, ImageError, MissingImage, ModelError
from imagetools.fingerprint.encoder import Encoder, Prepared
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
        """`recorded` gives paths of images that were read before this process began."""
        self._encoder = encoder
        self._images = images
        self._known = KnownImages(images, recorded)
        self._pool = ThreadPoolExecutor(threads or cpu_count() or 1, "decode")
        # the network takes one batch at a time
        self._scheduler = SliceScheduler()
        self._slicer = BatchSlicer(self._scheduler, self.batch_size)

    def run(self, batch: Sequence[Received[ImageNew]]) -> Sequence[Outcome]:
        """An embedding for each image, null for each that is gone."""
        return self._slicer.map(self._run, batch)

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """The fingerprint of each image that is asked about."""
        asked = [request for request in requests if isinstance(request, EncodeRequest)]
        with self._scheduler.request():
            described = self._encoder.describe(list(self._pool.map(self._look_at, asked)))
        replies = []
        for request, one in zip(asked, described, strict=True):
            if isinstance(one, ImageError):
                outcome = ReplyOutcome.MISSING if isinstance(one, MissingImage) else ReplyOutcome.REFUSED
                replies.append(reply_to(request, outcome, str(one)))
            else:
                replies.append(
                    reply_to(request, model=self._encoder.model, fingerprint=one.fingerprint, parts=to_parts(one))
                )
        return replies

    def inputs_away(self) -> str | None:
        """Why the folder of images is away or another one; None where images that were read before are there."""
        return self._known.away()

    def close(self) -> None:
        """End the decoding threads."""
        self._pool.shutdown()

    def _run(self, batch: Sequence[Received[ImageNew]]) -> list[Outcome]:
        digests: list[bytes] = []

        def prepared() -> Iterator[Prepared | ImageError | None]:
            for digest, one in self._pool.map(self._read, batch):
                digests.append(digest)
                yield one

        # the threads read on while the network runs
        described = self._encoder.describe(prepared())
        outcomes: list[Outcome] = []
        for received, digest, one in zip(batch, digests, described, strict=True):
            if isinstance(one, ImageError):
                outcomes.append(one)
                continue
            embedding = None
            if received.record is not None and one is not None:
                new, model = received.record, self._encoder.model
                embedding = Embedding(
                    new.request_id, received.path, one.fingerprint, model, digest, new.alert, to_parts(one)
                )
            origin = ((ANNOUNCED_IN, str(received.partition).encode()),)
            outcomes.append((Output(EMBEDDINGS, received.path, embedding, received.timestamp, origin),))
        return outcomes

    def _read(self, received: Received[ImageNew]) -> tuple[bytes, Prepared | ImageError | None]:
        """Digest and pixels; None where the image is gone, and no digest where there are no pixels."""
        if received.record is None:
            return b"", None
        try:
            data = self._images.read(received.path)
            self._known.note(received.path)
            return hashlib.sha256(data).digest(), self._encoder.read(data, received.path, self._images.config)
        except ImageError as exc:
            return b"", exc

    def _look_at(self, request: EncodeRequest) -> Prepared | ImageError:
        try:
            if request.image is not None:
                data, name = request.image, "the image"
            else:
                data, name = self._images.read(request.relative_path), shown(request.relative_path)
            return self._encoder.read(data, name, self._images.config)
        except ImageError as exc:
            return exc


def make(config: Config) -> EncoderStage:
    """The stage, ready to run; ModelError where the model cannot be used, or is another one than the log's.

    ConfigError where DIMENSION is not the model's, or there is no log.
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
