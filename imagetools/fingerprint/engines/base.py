"""The contract of an engine, and what every engine is opened with."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ModelFile:
    """A model as it is read from disk, and how an engine computes it.

    name      of the file, for errors; the ending .onnx marks an ONNX network
    data      the file's bytes
    side      of an image, pixels
    bfloat16  compute in bfloat16; None: where the processor or GPU computes in it natively
    threads   None: as many as this process may use cores
    """

    name: str
    data: bytes
    side: int
    bfloat16: bool | None = None
    threads: int | None = None

    @property
    def is_onnx(self) -> bool:
        """Whether the file is an ONNX network, which OpenVINO alone runs."""
        return self.name.endswith(".onnx")


class Engine(Protocol):
    """Runs one model.

    name       torch or openvino, with the arithmetic and the device
    dimension  of a vector
    """

    name: str
    dimension: int

    def run(self, pixels: Pixels) -> Vectors:
        """Compute vectors, float32 (n, dimension), of images, uint8 (n, side, side, 3). One thread at a time."""
        ...
