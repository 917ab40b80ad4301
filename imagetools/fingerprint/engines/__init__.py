"""What runs a model: torch, which always works, or OpenVINO, which is faster on a processor and starts sooner.

On two cores OpenVINO encodes 1.2 times as many images a second as torch in bfloat16, and 1.3 times in float32. Its
process is ready in a ninth of the time, since a converted model is kept and torch is not loaded (`bench.encode`). Both
give the same fingerprints, to within a cosine of .9999 in float32 and .999 in bfloat16. A model that was quantized to
int8 runs on OpenVINO alone.
"""

from pathlib import Path

from imagetools.errors import ModelError
from imagetools.fingerprint.engines.base import Engine, ModelFile
from imagetools.fingerprint.engines.openvino import OpenVinoEngine, has_openvino
from imagetools.fingerprint.engines.torch import TorchEngine
from imagetools.hardware import has_gpu

__all__ = ["Engine", "ModelFile", "open_engine"]


def open_engine(model: ModelFile, engine: str = "auto", kept: Path | None = None) -> Engine:
    """Open the engine for a model file.

    engine  one of config.ENGINES; auto: a GPU through torch, else OpenVINO where it is installed, else torch
    kept    a folder for models converted for OpenVINO; None: convert at every start
    ModelError where the file is no model that can be read, or the engine is not installed.
    """
    if engine == "auto":
        gpu = has_gpu() and not model.is_onnx
        engine = "torch" if gpu or not has_openvino() else "openvino"
    if engine == "openvino":
        return OpenVinoEngine(model, kept)
    if model.is_onnx:
        raise ModelError(f"{model.name}: an ONNX file needs OpenVINO: pip install openvino")
    return TorchEngine(model)
