"""Fingerprints: one unit-length vector an image, from a torchvision ResNet without its classifier."""

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torchvision.models import resnet

from imagetools.errors import ModelError

DEFAULT_MODEL = "resnet18.th"
DEFAULT_INPUT_SIZE = 160
"""Pixels. At 224 the default model finds .7 points more of the originals among its first ten, for twice the time."""

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

BATCH_SIZE = 32
"""Images that go through the network at once; larger ones gain nothing on a processor and cost memory."""

ARCHITECTURES: dict[tuple[str, tuple[int, ...]], Any] = {
    ("basic", (2, 2, 2, 2)): resnet.resnet18,
    ("basic", (3, 4, 6, 3)): resnet.resnet34,
    ("bottleneck", (3, 4, 6, 3)): resnet.resnet50,
    ("bottleneck", (3, 4, 23, 3)): resnet.resnet101,
}
"""By kind of block and number of blocks in each of the four layers (He et al. 2016, table 1)."""


@dataclass(frozen=True)
class EncoderConfig:
    """Which model, and how it is run.

    model       file name, looked for in `folder` and then in the package
    folder      of models; None: the package alone
    input_size  pixels; each image is resized to a square of this side, its aspect not kept
    bfloat16    compute in bfloat16; None: where the processor or GPU computes in it natively
    """

    model: str = DEFAULT_MODEL
    folder: Path | None = None
    input_size: int = DEFAULT_INPUT_SIZE
    bfloat16: bool | None = None


class Encoder:
    """Turns images into fingerprints. `encode` may be called from one thread at a time.

    model      what made a fingerprint: file name, twelve digits of the file's SHA-256, input size
    dimension  of a fingerprint
    """

    def __init__(self, network: nn.Module, dimension: int, model: str, config: EncoderConfig) -> None:
        """Use `load`, unless the network is at hand."""
        self.config = config
        self.model = model
        self.dimension = dimension
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        wanted = config.bfloat16
        self.bfloat16 = _computes_bfloat16(self.device) if wanted is None else wanted
        self._network = network.eval().to(self.device).to(memory_format=torch.channels_last)
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(IMAGENET_MEAN, device=self.device).view(shape) * 255
        self._deviation = torch.tensor(IMAGENET_DEVIATION, device=self.device).view(shape) * 255

    @classmethod
    def load(cls, config: EncoderConfig | None = None) -> "Encoder":
        """The encoder of a model file: a torchvision ResNet-18, 34, 50 or 101 state dict, in any float type.

        ModelError where the file is missing, is no such state dict, or holds numbers that are not finite. The file is
        read with weights_only: nothing in it is run.
        """
        config = config or EncoderConfig()
        data = _read_model(config.model, config.folder)
        try:
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as exc:
            raise ModelError(f"{config.model}: not a file of weights: {_first_line(exc)}") from exc
        network, dimension = _network(config.model, loaded)
        digest = hashlib.sha256(data).hexdigest()[:12]
        return cls(network, dimension, f"{config.model}:{digest}:{config.input_size}", config)

    def prepare(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """An RGB image as the network takes it: uint8 (size, size, 3). Thread-safe."""
        side = self.config.input_size
        return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0))

    def encode(self, images: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        """Fingerprints of RGB images: float32 (n, dimension), finite, of unit length."""
        return self.encode_prepared([self.prepare(image) for image in images])

    def encode_prepared(self, pixels: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Fingerprints of what `prepare` gave: float32 (n, dimension), finite, of unit length."""
        batches = [self._forward(np.stack(pixels[i : i + BATCH_SIZE])) for i in range(0, len(pixels), BATCH_SIZE)]
        return np.concatenate(batches) if batches else np.empty((0, self.dimension), np.float32)

    @torch.inference_mode()
    def _forward(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        batch = ((batch.float() - self._mean) / self._deviation).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            features = self._network(batch)
        vectors = features.float().cpu().numpy()
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        # a vector of zeros has no direction: give it one, so that every image has a fingerprint
        vectors = np.where(lengths > 0, vectors, 1.0)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and bool({"avx512_bf16", "amx_bf16"} & set(flags[1].split()))


def _read_model(name: str, folder: Path | None) -> bytes:
    if not name or Path(name).name != name:
        raise ModelError(f"MODELS_NAME is {name!r}: it is the name of a file, not a path")
    places: list[Any] = [folder / name] if folder else []
    places.append(files("imagetools.models") / name)
    for place in places:
        try:
            return bytes(place.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise ModelError(f"{place}: {exc.strerror}") from exc
    raise ModelError(f"no model {name}: looked for {' and '.join(str(place) for place in places)}")


def _network(name: str, loaded: object) -> tuple[nn.Module, int]:
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise ModelError(f"{name}: not a state dict: a mapping of names to tensors")
    state = {str(k).removeprefix("module."): v.float() if v.is_floating_point() else v for k, v in loaded.items()}
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    kind = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    blocks = tuple(len({key.split(".")[1] for key in state if key.startswith(f"layer{i}.")}) for i in range(1, 5))
    make = ARCHITECTURES.get((kind, blocks))
    if make is None:
        raise ModelError(f"{name}: not a torchvision ResNet-18, 34, 50 or 101 (blocks {blocks}, {kind})")
    network: nn.Module = make(weights=None)
    dimension: int = network.fc.in_features  # type: ignore[union-attr, assignment]
    network.fc = nn.Identity()
    try:
        network.load_state_dict(state)
    except RuntimeError as exc:
        raise ModelError(f"{name}: {' '.join(str(exc).split())[:300]}") from exc
    broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise ModelError(f"{name}: numbers that are not finite in {broken[0]}")
    return network, dimension


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]
