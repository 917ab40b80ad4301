"""Quantization to int8: a network as one ONNX file, with ranges calibrated on the user's photos.

Everything after the last convolution stays in float32: mean, projection and normalization are a thousandth of the
arithmetic, and in int8 they would double the distance to the float32 fingerprints (`docs/training.md`).
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
"""The extra int8 brings the first three. torch needs onnxscript to write ONNX; OpenVINO runs the result."""

IN_INT8: Final = ("Conv", "Relu", "Add", "MaxPool")
"""ONNX operators: all of a ResNet's before its mean."""

QUANTIZED_FROM: Final = "imagetools.quantized_from"
"""Metadata key of the file: the model that it was made from."""


def require_libraries() -> None:
    """Raise PrerequisiteMissing if a library that `quantize` needs is missing."""
    for name in LIBRARIES:
        if importlib.util.find_spec(name) is None:
            raise PrerequisiteMissing(f"int8 needs {name}: pip install -e '.[int8]' in the clone")


def quantize(network: nn.Module, pixels: npt.NDArray[np.uint8], *, origin: str) -> bytes:
    """Return an ONNX file with the network in int8: float32 (n, 3, side, side), normalized → (n, dimension).

    pixels  uint8 (m, side, side, 3), RGB: typical photos, which set the ranges; the same ones give the same bytes
    origin  the file that the network was loaded from; noted in the metadata
    ModelError if the network is no ResNet; PrerequisiteMissing without the libraries.
    """
    if not isinstance(network, ResNet):
        raise ModelError(f"{origin}: only ResNet state dicts can be quantized, and no TorchScript")
    require_libraries()
    import onnx  # noqa: PLC0415 - optional
    from onnxruntime import quantization  # noqa: PLC0415
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    class CalibrationPhotos(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rest = iter(pixels)

        def get_next(self) -> Mapping[str, npt.NDArray[np.float32]] | None:
            photo = next(self._rest, None)
            return None if photo is None else {entry: _normalized(photo)}

    with tempfile.TemporaryDirectory() as scratch:
        plain, ready, quantized = (Path(scratch) / name for name in ("plain.onnx", "ready.onnx", "int8.onnx"))
        _export(network, pixels.shape[1], plain)
        # symbolic shape inference does not know the normalization's operator, and is not needed
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        entry = onnx.load(ready).graph.input[0].name
        quantization.quantize_static(
            ready,
            quantized,
            CalibrationPhotos(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(IN_INT8),
            per_channel=True,
            # seven-bit weights: processors without int8 instructions add two products in 16 bits, where eight-bit
            # weights overflow and change the fingerprints (cosine .94, at worst .47)
            reduce_range=True,
            # a ReLU's output has no sign: all eight bits hold its size
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        model = onnx.load(quantized)
    _remove_origins(model)
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


def _remove_origins(model: Any) -> None:
    """Remove torch's notes beside each node, which name source lines and folders."""
    graph = model.graph
    for noted in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del noted.metadata_props[:]


def _normalized(photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """uint8 (side, side, 3) → float32 (1, 3, side, side)."""
    mean, deviation = (np.array(value, np.float32) * 255 for value in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return np.ascontiguousarray(((photo - mean) / deviation).transpose(2, 0, 1)[None], np.float32)
