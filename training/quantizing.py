"""A network in int8: one ONNX file, whose convolutions compute in the ranges that photos of one's own have shown.

What comes after the last convolution stays in float32: the mean, the unit length and the projection are a thousandth
of the arithmetic, and in int8 they would double the distance to the fingerprints before (`docs/training.md`).
"""

import importlib.util
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torchvision.models import ResNet

from imagetools.errors import ModelError, PrerequisiteMissing
from imagetools.fingerprint.normalization import IMAGENET_DEVIATION, IMAGENET_MEAN

LIBRARIES: Final = ("onnx", "onnxscript", "onnxruntime", "openvino")
"""The first three come with the extra int8, torch writes ONNX by the second; the last runs what is made."""

IN_INT8: Final = ("Conv", "Relu", "Add", "MaxPool")
"""ONNX operators: all of a ResNet's up to its mean."""

QUANTIZED_FROM: Final = "imagetools.quantized_from"
"""Key in the file's metadata: what it was made from."""


def require_libraries() -> None:
    """PrerequisiteMissing without what `quantize` needs."""
    for name in LIBRARIES:
        if importlib.util.find_spec(name) is None:
            raise PrerequisiteMissing(f"int8 needs {name}: pip install -e '.[int8]' in the clone")


def quantize(network: nn.Module, pixels: npt.NDArray[np.uint8], *, origin: str) -> bytes:
    """The network in int8, as the bytes of an ONNX file: float32 (n, 3, side, side), normalised → (n, dimension).

    pixels  uint8 (m, side, side, 3), RGB, of photos such as it will see: the ranges come from them, and the same ones
            give the same bytes
    origin  what the network was loaded from, written into the file
    ModelError where it is no ResNet; PrerequisiteMissing without the libraries.
    """
    if not isinstance(network, ResNet):
        raise ModelError(f"{origin}: only ResNet state dicts can be quantized, and no TorchScript")
    require_libraries()
    import onnx  # noqa: PLC0415 - optional
    from onnxruntime import quantization  # noqa: PLC0415
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    class Photos(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rest = iter(pixels)

        def get_next(self) -> Mapping[str, npt.NDArray[np.float32]] | None:
            photo = next(self._rest, None)
            return None if photo is None else {entry: _normalised(photo)}

    with tempfile.TemporaryDirectory() as scratch:
        plain, ready, quantized = (Path(scratch) / name for name in ("plain.onnx", "ready.onnx", "int8.onnx"))
        _export(network, pixels.shape[1], plain)
        # its symbolic shapes do not know what brings a vector to unit length, and are not needed
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        entry = onnx.load(ready).graph.input[0].name
        quantization.quantize_static(
            ready,
            quantized,
            Photos(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(IN_INT8),
            per_channel=True,
            # weights of seven bits: the products of eight overflow on processors without int8 instructions, which add
            # two of them in 16 bits, and their fingerprints would be others (cosine .94, at worst .47)
            reduce_range=True,
            # what a ReLU gives has no sign, and all eight bits are for its size
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        model = onnx.load(quantized)
    _forget_origins(model)
    onnx.helper.set_model_props(model, {QUANTIZED_FROM: origin})
    return bytes(model.SerializeToString(deterministic=True))


def _export(network: nn.Module, side: int, to: Path) -> None:
    """Write the network as ONNX, for any number of images."""
    count = torch.export.Dim("count", min=1, max=1024)
    program = torch.onnx.export(
        network, (torch.zeros(2, 3, side, side),), dynamo=True, dynamic_shapes=({0: count},), verbose=False
    )
    assert program is not None
    program.save(to)


def _forget_origins(model: Any) -> None:
    """Take out what torch notes beside each node: the lines and folders of the program that it came from."""
    graph = model.graph
    for noted in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del noted.metadata_props[:]


def _normalised(photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """uint8 (side, side, 3) → float32 (1, 3, side, side)."""
    mean, deviation = (np.array(value, np.float32) * 255 for value in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return np.ascontiguousarray(((photo - mean) / deviation).transpose(2, 0, 1)[None], np.float32)
