"""Model files → OpenVINO models that take pixels, converted once and kept on disk for the next start."""

import hashlib
import logging
import warnings
from pathlib import Path
from typing import Any, Final

from imagetools.errors import ModelError
from imagetools.fingerprint.engines.base import ModelFile
from imagetools.fingerprint.normalization import IMAGENET_DEVIATION, IMAGENET_MEAN
from imagetools.scratch import Scratch

log = logging.getLogger(__name__)

_CONVERSION: Final = 1
"""The conversion's version; a kept model of another version is converted again."""


def load_converted(core: Any, openvino: Any, model: ModelFile, kept: Path | None) -> Any:
    """Read the converted model where it is kept; otherwise convert it and keep it.

    core  openvino.Core
    kept  a folder for converted models; None: keep none
    ModelError where OpenVINO cannot take the model.
    """
    if kept is None:
        return _convert(core, openvino, model)
    place = kept / f"{hashlib.sha256(model.data).hexdigest()}-{model.side}-{_CONVERSION}" / "model.xml"
    if place.exists():
        try:
            return core.read_model(place)
        except RuntimeError as exc:
            log.warning("%s cannot be read, converting %s again: %s", place, model.name, exc)
            return _convert(core, openvino, model)
    converted = _convert(core, openvino, model)
    _keep(openvino, converted, place)
    return converted


def _keep(openvino: Any, converted: Any, place: Path) -> None:
    kept = place.parent.parent
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with Scratch(".converting-", kept) as draft:
            openvino.save_model(converted, draft / "new" / place.name, compress_to_fp16=False)
            # the first of several processes keeps the place
            if not place.parent.exists():
                (draft / "new").rename(place.parent)
    except (OSError, RuntimeError) as exc:
        log.warning("the converted model cannot be kept in %s, every start converts it: %s", kept, exc)


def _convert(core: Any, openvino: Any, model: ModelFile) -> Any:
    return _from_onnx(core, openvino, model) if model.is_onnx else _from_torch(openvino, model)


def _from_torch(openvino: Any, model: ModelFile) -> Any:
    """Convert a state dict or a TorchScript network."""
    import torch  # noqa: PLC0415 - needed once for each model

    from imagetools.fingerprint.networks import FromPixels, dimension_of, load_network  # noqa: PLC0415 - torch

    side = model.side
    network = load_network(model.name, model.data)
    dimension_of(model.name, network, side)
    whole = FromPixels(network).eval()
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    if isinstance(network, torch.jit.ScriptModule):
        with warnings.catch_warnings():
            # a TorchScript program can only be traced to TorchScript, which torch warns about
            warnings.simplefilter("ignore", FutureWarning)
            traced = torch.jit.trace(whole, example, check_trace=False)  # type: ignore[no-untyped-call]
        converted = openvino.convert_model(traced, input=[([-1, side, side, 3], openvino.Type.u8)])
    else:
        count = torch.export.Dim("count", min=1, max=1024)
        exported = torch.export.export(whole, (example,), dynamic_shapes=({0: count},))
        converted = openvino.convert_model(exported)
    converted.reshape([-1, side, side, 3])
    return converted


def _from_onnx(core: Any, openvino: Any, model: ModelFile) -> Any:
    """Read an ONNX network of one input, float (n, 3, side, side), normalised as torchvision's are."""
    from openvino.preprocess import ColorFormat, PrePostProcessor  # noqa: PLC0415 - optional

    name, side = model.name, model.side
    try:
        network = core.read_model(model.data, b"")
        if len(network.inputs) != 1:
            raise ModelError(f"{name}: has {len(network.inputs)} inputs; it gets one image at a time")
        network.reshape([-1, 3, side, side])
        steps = PrePostProcessor(network)
        steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        steps.input().tensor().set_color_format(ColorFormat.RGB)
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        steps.input().preprocess().convert_element_type(openvino.Type.f32)
        steps.input().preprocess().mean([255 * value for value in IMAGENET_MEAN])
        steps.input().preprocess().scale([255 * value for value in IMAGENET_DEVIATION])
        return steps.build()
    except RuntimeError as exc:
        said = " ".join(str(exc).split())[:300]
        raise ModelError(f"{name}: not an ONNX network of one input (n, 3, {side}, {side}): {said}") from exc
