"""OpenVINO as an engine: faster than torch on a processor, and quick to start."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from imagetools.errors import ModelError
from imagetools.fingerprint.engines.base import ModelFile, Pixels, Vectors
from imagetools.fingerprint.engines.conversion import load_converted
from imagetools.hardware import processor_computes_bfloat16, usable_cores

MAX_PIECE: Final = 16
"""Images that go through the network at once, on each of its streams; larger pieces gain nothing."""


def has_openvino() -> bool:
    """Tell whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


class OpenVinoEngine:
    """OpenVINO, on the processor, with a stream of its own for each core."""

    def __init__(self, model: ModelFile, kept: Path | None = None) -> None:
        """Load or convert the model; `kept` is a folder for converted models, None keeps none. ModelError."""
        try:
            openvino = _import_openvino()
        except ImportError as exc:
            raise ModelError(f"{model.name}: the engine openvino is not installed: pip install openvino") from exc

        low = processor_computes_bfloat16() if model.bfloat16 is None else model.bfloat16
        core = openvino.Core()
        converted = load_converted(core, openvino, model, kept)
        shape = converted.output(0).get_partial_shape()
        if len(shape) != 2 or not shape[1].is_static:
            raise ModelError(f"{model.name}: does not give one vector an image, but the shape {shape}")
        self.dimension = int(shape[1].get_length())
        compiled = core.compile_model(
            converted,
            "CPU",
            {
                "PERFORMANCE_HINT": "THROUGHPUT",
                "INFERENCE_PRECISION_HINT": "bf16" if low else "f32",
                "INFERENCE_NUM_THREADS": model.threads or usable_cores(),
                # a thread bound to a core would wait for it while another process is busy there
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._queue = openvino.AsyncInferQueue(compiled)
        self._found: dict[int, Vectors] = {}
        self._queue.set_callback(self._take)
        self._streams = len(self._queue)
        arithmetic = "int8" if _is_quantized(converted) else "bfloat16" if low else "float32"
        self.name = f"openvino {openvino.__version__.split('-')[0]}, {arithmetic}, cpu"

    def run(self, pixels: Pixels) -> Vectors:
        """Compute as `Engine.run` says."""
        self._found = {}
        pieces = cut_pieces(len(pixels), self._streams)
        for start, end in pieces:
            self._queue.start_async({0: np.ascontiguousarray(pixels[start:end])}, start)
        self._queue.wait_all()
        vectors = [self._found[start] for start, _ in pieces]
        return np.concatenate(vectors) if vectors else np.empty((0, self.dimension), np.float32)

    def _take(self, request: Any, start: int) -> None:
        # a copy: the request's next run overwrites its buffer
        self._found[start] = np.array(request.get_output_tensor(0).data, dtype=np.float32)


def cut_pieces(count: int, streams: int) -> Sequence[tuple[int, int]]:
    """Cut `count` images into pieces that keep all streams busy: (start, end).

    Their lengths are powers of two, since OpenVINO prepares itself for each new length, and keeps what it prepared.
    """
    pieces: list[tuple[int, int]] = []
    start = 0
    while start < count:
        share = min(MAX_PIECE, max(1, (count - start) // streams))
        length = 1 << (share.bit_length() - 1)
        pieces.append((start, start + length))
        start += length
    return pieces


def _is_quantized(converted: Any) -> bool:
    """Tell whether convolutions or products are between 8-bit integers; the rest computes as is asked for."""
    return any(node.get_type_name() == "FakeQuantize" for node in converted.get_ops())


def _import_openvino() -> Any:
    """Import OpenVINO without the package that reports its use to its makers over the network."""
    # importing a module that is None here fails, and OpenVINO then uses a stand-in of its own
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino  # noqa: PLC0415 - optional

    return openvino
