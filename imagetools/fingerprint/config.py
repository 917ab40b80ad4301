"""The encoder's settings, in a module that loads no library: the command line shows their defaults."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_MODEL: Final = "resnet18.th"
DEFAULT_INPUT_SIZE: Final = 112
"""Pixels. At 160 a fingerprint alone finds two points more of the originals among the first ten, for 1.9 times the
time; together with local codes both find all but one of 1,547 copies (`bench.candidates`)."""

ENGINES: Final = ("auto", "torch", "openvino")


@dataclass(frozen=True)
class EncoderConfig:
    """Which model, and how it is run.

    model       file name, looked for in `folder` and then in the package: a torchvision ResNet state dict, TorchScript,
                or ONNX, in int8 too
    folder      of models; None: the package alone
    input_size  pixels; each image is resized to a square of this side, its aspect not kept
    bfloat16    compute in bfloat16; None: where the processor or GPU computes in it natively
    engine      one of ENGINES
    threads     of the engine; None: as many as this process may use cores
    kept        a folder for models converted for OpenVINO, which makes the next start quick; None: none is kept
    """

    model: str = DEFAULT_MODEL
    folder: Path | None = None
    input_size: int = DEFAULT_INPUT_SIZE
    bfloat16: bool | None = None
    engine: str = "auto"
    threads: int | None = None
    kept: Path | None = None
