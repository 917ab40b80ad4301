"""Fingerprints: one unit-length vector an image, from a network that was trained for copies."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageStat

from imagetools.decode import DEFAULT_CONFIG, DecodeConfig, decode_frames
from imagetools.errors import ModelError
from imagetools.fingerprint.config import EncoderConfig
from imagetools.fingerprint.engines import Engine, ModelFile, open_engine

BATCH_SIZE = 32
"""Images that go through the network at once; larger batches gain nothing on a processor and cost memory."""

_MIN_DEVIATION: Final = 8.0
"""Deviation of the levels of a frame, in any channel, below which it is nearly blank and says nothing of an animation:
thousands begin in black."""

Other = TypeVar("Other")


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """An image's pixels, ready for the network.

    first   uint8 (size, size, 3); of an animation, its first frame that tells something
    later   the other frames that stand for an animation, each of the same shape
    digest  SHA-256 of the file, empty where `read` got none
    codes   of the image's local detail, packed; the same
    """

    first: npt.NDArray[np.uint8]
    later: tuple[npt.NDArray[np.uint8], ...] = ()
    digest: bytes = b""
    codes: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """An image's fingerprint, float32 (dimension,), and those of the later frames of an animation.

    digest  as in `Prepared`
    codes   the same
    """

    fingerprint: npt.NDArray[np.float32]
    later: tuple[npt.NDArray[np.float32], ...] = ()
    digest: bytes = b""
    codes: bytes = b""


class Encoder:
    """Turns images into fingerprints. `encode` may be called from one thread at a time.

    model      names what makes the fingerprints: file name, twelve digits of the file's SHA-256, input size
    engine     what runs the model
    dimension  of a fingerprint
    """

    def __init__(self, engine: Engine, model: str, config: EncoderConfig) -> None:
        """Use `load`, unless the engine is open already."""
        self.config = config
        self.model = model
        self.engine = engine
        self.dimension = engine.dimension

    @classmethod
    def load(cls, config: EncoderConfig | None = None) -> "Encoder":
        """Load the encoder of a model file: a torchvision ResNet-18, 34, 50 or 101 state dict, TorchScript, or ONNX.

        ModelError where the file is missing, is none of these, or holds numbers that are not finite. State dicts are
        read with weights_only: nothing in them runs.
        """
        config = config or EncoderConfig()
        data = _read_model(config.model, config.folder)
        model = ModelFile(config.model, data, config.input_size, config.bfloat16, config.threads)
        engine = open_engine(model, config.engine, config.kept)
        digest = hashlib.sha256(data).hexdigest()[:12]
        return cls(engine, f"{config.model}:{digest}:{config.input_size}", config)

    def prepare(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Resize an RGB image for the network: uint8 (size, size, 3). Thread-safe."""
        side = self.config.input_size
        return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0))

    def read(
        self,
        data: bytes,
        name: str,
        config: DecodeConfig = DEFAULT_CONFIG,
        *,
        frames: Sequence[Image.Image] = (),
        digest: bytes = b"",
        codes: bytes = b"",
    ) -> Prepared:
        """Decode an image file, ready for the network; ImageError. Thread-safe.

        Of an animation, frames that are nearly blank are left out.

        name    of the image, for errors
        frames  that stand for the image, where they are decoded already, to a box no smaller than input_size
        digest  of the file, for `describe` to hand on
        codes   the same
        """
        side = self.config.input_size
        telling = _telling(frames or decode_frames(data, name, box=(side, side), config=config))
        first, *later = (self.prepare(frame) for frame in telling)
        return Prepared(first, tuple(later), digest, codes)

    def describe(self, images: Iterable[Prepared | Other]) -> list[Described | Other]:
        """Compute the fingerprints of what `read` returned, in place; anything else stays as it is.

        Takes the images as they come, so that other threads can read ahead while the network runs.
        """
        taken: list[Prepared | Other] = []

        def pixels() -> Iterator[npt.NDArray[np.uint8]]:
            for image in images:
                taken.append(image)
                if isinstance(image, Prepared):
                    yield image.first
                    yield from image.later

        rows = iter(self.encode_prepared(pixels()))
        return [
            Described(next(rows), tuple(islice(rows, len(image.later))), image.digest, image.codes)
            if isinstance(image, Prepared)
            else image
            for image in taken
        ]

    def encode(self, images: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        """Compute the fingerprints of RGB images: float32 (n, dimension), finite, of unit length."""
        return self.encode_prepared(self.prepare(image) for image in images)

    def encode_prepared(self, pixels: Iterable[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Compute the fingerprints of what `prepare` returned: float32 (n, dimension), finite, of unit length.

        Takes BATCH_SIZE at a time from `pixels`, so that other threads can prepare ahead while the network runs.
        """
        coming = iter(pixels)
        batches: list[npt.NDArray[np.float32]] = []
        while piece := list(islice(coming, BATCH_SIZE)):
            batches.append(_unit(self.engine.run(np.stack(piece))))
        return np.concatenate(batches) if batches else np.empty((0, self.dimension), np.float32)


def _telling(frames: Sequence[Image.Image]) -> Sequence[Image.Image]:
    """Return different frames that are not nearly blank, or the first where all are."""
    if len(frames) == 1:
        return frames
    different = list({frame.tobytes(): frame for frame in frames}.values())
    return [frame for frame in different if max(ImageStat.Stat(frame).stddev) >= _MIN_DEVIATION] or frames[:1]


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    # a vector of zeros has no direction: it gets one, so that every image has a fingerprint
    vectors = np.where(lengths > 0, vectors, 1.0)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def model_file(name: str, folder: Path | None) -> Any:
    """Find a model file, in the folder or else in the package; ModelError where there is none."""
    if not name or Path(name).name != name:
        raise ModelError(f"MODELS_NAME is {name!r}: it is the name of a file, not a path")
    places: list[Any] = [folder / name] if folder else []
    places.append(files("imagetools.models") / name)
    for place in places:
        try:
            with place.open("rb"):
                return place
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise ModelError(f"{place}: {exc.strerror}") from exc
    raise ModelError(f"no model {name} (MODELS_NAME): looked for {' and '.join(str(place) for place in places)}")


def _read_model(name: str, folder: Path | None) -> bytes:
    place = model_file(name, folder)
    try:
        return bytes(place.read_bytes())
    except OSError as exc:
        raise ModelError(f"{place}: {exc.strerror}") from exc
