"""Model files → torch networks that turn normalised pixels into vectors.

Two kinds of file are read: a torchvision ResNet state dict, with or without a `Projection`, by weights_only, so that
nothing in it runs; and a TorchScript archive, a program of torch's own operators without any Python.
"""

import io
import re
import zipfile
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import resnet

from imagetools.errors import ModelError
from imagetools.fingerprint.normalization import IMAGENET_DEVIATION, IMAGENET_MEAN

ARCHITECTURES: dict[tuple[str, tuple[int, ...]], Any] = {
    ("basic", (2, 2, 2, 2)): resnet.resnet18,
    ("basic", (3, 4, 6, 3)): resnet.resnet34,
    ("bottleneck", (3, 4, 6, 3)): resnet.resnet50,
    ("bottleneck", (3, 4, 23, 3)): resnet.resnet101,
}
"""By kind of block, and number of blocks in each of the four layers (He et al. 2016, table 1)."""

PROJECTION = "projection."
"""Prefix of a projection's tensors in a state dict; `fc.` is the prefix of torchvision's classifier."""


class Projection(nn.Module):
    """A linear map of unit vectors, where a ResNet has its classifier. It centres and stretches them for copies.

    weight  (dimension, width), width as the network's own
    bias    (dimension,)
    """

    def __init__(self, width: int, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(dimension, width))
        self.bias = nn.Parameter(torch.zeros(dimension))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Map (n, width) → float32 (n, dimension), also under autocast.

        The bias subtracts what all photos have in common, and in bfloat16 the rounding of that large part would remain.
        Over 91 photos in torch, a bfloat16 fingerprint is 5.2e-5 from the float32 one (1 − cosine); with the projection
        in bfloat16, too, 8.4e-5.
        """
        device = rows.device.type
        # only under autocast: an exported network would contain it as an operator
        exactly = torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
        with exactly:
            return functional.linear(functional.normalize(rows.float(), dim=1), self.weight, self.bias)


class FromPixels(nn.Module):
    """A network with its normalisation: uint8 (n, side, side, 3), RGB → float32 (n, dimension), not of unit length."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255)
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1) * 255)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Compute the vectors."""
        vectors: torch.Tensor = self.network((pixels.permute(0, 3, 1, 2).float() - self.mean) / self.deviation)
        return vectors.flatten(1)


def load_network(name: str, data: bytes) -> nn.Module:
    """Load the network in a file's bytes, in evaluation mode, with float32 weights.

    name  of the file, for errors
    ModelError where it is neither a state dict of a ResNet-18, 34, 50 or 101 nor TorchScript, or holds numbers that
    are not finite.
    """
    network = _scripted(name, data) if _is_torchscript(data) else _resnet(name, _weights(name, data))
    state = network.state_dict()
    broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise ModelError(f"{name}: numbers that are not finite in {broken[0]}")
    return network.eval()


@torch.inference_mode()
def dimension_of(name: str, network: nn.Module, side: int) -> int:
    """Return the length of a network's vectors, for images of side × side pixels. ModelError where it gives none."""
    try:
        vectors = network(torch.zeros(1, 3, side, side))
    except RuntimeError as exc:
        raise ModelError(f"{name}: does not take {side} × {side} pixels: {_last_line(exc)}") from exc
    if not isinstance(vectors, torch.Tensor) or vectors.shape[:1] != (1,) or not vectors.is_floating_point():
        raise ModelError(f"{name}: does not give one vector an image")
    return int(vectors.numel())


def _is_torchscript(data: bytes) -> bool:
    """Tell a TorchScript archive from weights: both are zip archives, and only TorchScript has a folder of code."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(entry.split("/")[1:2] == ["code"] for entry in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _scripted(name: str, data: bytes) -> nn.Module:
    try:
        network: nn.Module = torch.jit.load(io.BytesIO(data), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as exc:
        raise ModelError(f"{name}: not a TorchScript file that torch {torch.__version__} reads: {exc}") from exc
    return network.float()


def _weights(name: str, data: bytes) -> object:
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # torch documents no errors for bytes that are no weights: struct, pickle, zip and runtime errors occur
    except Exception as exc:
        # the rest of torch's message advises to load the file without safeguards
        raise ModelError(f"{name}: not a file of weights: {_first_line(exc).split('. In PyTorch')[0]}") from exc


def _resnet(name: str, loaded: object) -> nn.Module:
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
    width: int = network.fc.in_features  # type: ignore[union-attr, assignment]
    network.fc = nn.Identity()
    weight = state.get(f"{PROJECTION}weight")
    if weight is not None and weight.ndim == 2:
        network.fc = Projection(width, len(weight))
        state = {re.sub(f"^{re.escape(PROJECTION)}", "fc.", key): value for key, value in state.items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as exc:
        raise ModelError(f"{name}: {' '.join(str(exc).split())[:300]}") from exc
    return network


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]


def _last_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[-1]
