"""What runs a model: torch, which always works, or OpenVINO, which is faster on a processor and starts sooner.

Measured on two cores: OpenVINO takes 1.2 times as many images a second as torch in bfloat16, 1.3 times in float32, and
its process is ready in a ninth of the time, since a model that was converted once is kept and torch is not loaded at
all (`bench.encode`). Both give the same fingerprints, to within a cosine of .9999 in float32 and .999 in bfloat16. A
model that was quantized to int8 is OpenVINO's alone.
"""

import hashlib
import importlib.util
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from imagetools.errors import ModelError
from imagetools.scratch import Scratch

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION: Final = (0.229, 0.224, 0.225)
"""What torchvision's networks were trained to have taken from their pixels, and divided by; of channels from 0 to 1."""

PIECE: Final = 16
"""Images that go through OpenVINO at once, on each of its streams; larger ones gain nothing there."""

TORCH_PIECE: Final = 32
"""The same for torch, which gains from more."""

_CONVERSION: Final = 1
"""Of what is kept of a converted model; one of another number is converted anew."""

_GPU_DEVICES: Final = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


class Engine(Protocol):
    """Runs one model.

    name       torch or openvino, with the arithmetic and the device
    dimension  of a vector
    """

    name: str
    dimension: int

    def run(self, pixels: Pixels) -> Vectors:
        """Vectors, float32 (n, dimension), of images, uint8 (n, side, side, 3). From one thread at a time."""
        ...


def open_engine(
    name: str, data: bytes, *, side: int, engine: str, bfloat16: bool | None, threads: int | None, kept: Path | None
) -> Engine:
    """The engine for a model file.

    name      of the model, for errors; an ending .onnx says what it is
    data      the file's bytes
    side      of an image, pixels
    engine    one of ENGINES; auto: a GPU through torch, else OpenVINO where it is installed, else torch
    bfloat16  compute in bfloat16; None: where the processor or GPU computes in it natively
    threads   None: as many as this process may use cores
    kept      a folder for converted models; None: convert at every start
    ModelError where the file is no model that is read, or the engine is not there.
    """
    if engine == "auto":
        gpu = has_gpu() and not name.endswith(".onnx")
        engine = "torch" if gpu or not openvino_is_there() else "openvino"
    if engine == "openvino":
        return OpenVinoEngine(name, data, side=side, bfloat16=bfloat16, threads=threads, kept=kept)
    if name.endswith(".onnx"):
        raise ModelError(f"{name}: an ONNX file needs OpenVINO: pip install openvino")
    return TorchEngine(name, data, side=side, bfloat16=bfloat16, threads=threads)


def openvino_is_there() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


@cache
def has_gpu() -> bool:
    """Whether torch has a GPU to use. Where the system shows none, torch is not loaded to ask."""
    if sys.platform == "linux" and not any(Path(device).exists() for device in _GPU_DEVICES):
        return False
    import torch  # noqa: PLC0415 - see above

    return torch.cuda.is_available()


@cache
def processor_computes_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively; emulated, it is slower than float32."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and bool({"avx512_bf16", "amx_bf16"} & set(flags[1].split()))


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _openvino() -> Any:
    """OpenVINO, without the package by which it would report its use to its makers over the network."""
    # importing what is None here fails, and OpenVINO then takes a stand-in of its own
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino  # noqa: PLC0415 - optional

    return openvino


class TorchEngine:
    """Torch, on a GPU where there is one."""

    def __init__(self, name: str, data: bytes, *, side: int, bfloat16: bool | None, threads: int | None) -> None:
        import torch  # noqa: PLC0415 - three seconds that OpenVINO's users are spared

        from imagetools.fingerprint.networks import FromPixels, dimension_of, load_network  # noqa: PLC0415

        network = load_network(name, data)
        self.dimension = dimension_of(name, network, side)
        self._torch = torch
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if threads is not None:
            torch.set_num_threads(threads)
        native = torch.cuda.is_bf16_supported() if self._device.type == "cuda" else processor_computes_bfloat16()
        self._bfloat16 = native if bfloat16 is None else bfloat16
        self._network = FromPixels(network).eval().to(self._device).to(memory_format=torch.channels_last)
        self.name = f"torch, {'bfloat16' if self._bfloat16 else 'float32'}, {self._device.type}"

    def run(self, pixels: Pixels) -> Vectors:
        """As `Engine.run`."""
        pieces = [self._piece(pixels[i : i + TORCH_PIECE]) for i in range(0, len(pixels), TORCH_PIECE)]
        return np.concatenate(pieces) if pieces else np.empty((0, self.dimension), np.float32)

    def _piece(self, pixels: Pixels) -> Vectors:
        torch = self._torch
        autocast = torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bfloat16)
        with torch.inference_mode(), autocast:
            vectors = self._network(torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device))
        return np.asarray(vectors.float().cpu().numpy(), dtype=np.float32)


class OpenVinoEngine:
    """OpenVINO, on the processor, with a stream of its own for each core."""

    def __init__(
        self, name: str, data: bytes, *, side: int, bfloat16: bool | None, threads: int | None, kept: Path | None
    ) -> None:
        try:
            openvino = _openvino()
        except ImportError as exc:
            raise ModelError(f"{name}: the engine openvino is not installed: pip install openvino") from exc

        low = processor_computes_bfloat16() if bfloat16 is None else bfloat16
        core = openvino.Core()
        model = _kept_model(core, openvino, name, data, side, kept)
        shape = model.output(0).get_partial_shape()
        if len(shape) != 2 or not shape[1].is_static:
            raise ModelError(f"{name}: does not give one vector an image, but the shape {shape}")
        self.dimension = int(shape[1].get_length())
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "THROUGHPUT",
                "INFERENCE_PRECISION_HINT": "bf16" if low else "f32",
                "INFERENCE_NUM_THREADS": threads or usable_cores(),
                # bound to cores, it would wait for one that another process is busy on
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._queue = openvino.AsyncInferQueue(compiled)
        self._found: dict[int, Vectors] = {}
        self._queue.set_callback(self._take)
        self._lanes = len(self._queue)
        arithmetic = "int8" if _is_quantized(model) else "bfloat16" if low else "float32"
        self.name = f"openvino {openvino.__version__.split('-')[0]}, {arithmetic}, cpu"

    def run(self, pixels: Pixels) -> Vectors:
        """As `Engine.run`."""
        self._found = {}
        pieces = _pieces(len(pixels), self._lanes)
        for start, end in pieces:
            self._queue.start_async({0: np.ascontiguousarray(pixels[start:end])}, start)
        self._queue.wait_all()
        parts = [self._found[start] for start, _ in pieces]
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)

    def _take(self, request: Any, start: int) -> None:
        # the buffer is the request's own, and is written again by its next run
        self._found[start] = np.array(request.get_output_tensor(0).data, dtype=np.float32)


def _is_quantized(model: Any) -> bool:
    """Whether convolutions or products in it are between 8-bit integers; the rest computes as is asked for."""
    return any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())


def _pieces(count: int, lanes: int) -> Sequence[tuple[int, int]]:
    """Cut `count` images into pieces that keep all lanes busy: (start, end).

    Their lengths are powers of two, since OpenVINO prepares itself, and keeps what it prepared, for each new length.
    """
    pieces: list[tuple[int, int]] = []
    start = 0
    while start < count:
        share = min(PIECE, max(1, (count - start) // lanes))
        length = 1 << (share.bit_length() - 1)
        pieces.append((start, start + length))
        start += length
    return pieces


def _kept_model(core: Any, openvino: Any, name: str, data: bytes, side: int, kept: Path | None) -> Any:
    """The model as OpenVINO takes it: read where it was converted before, else converted, and kept."""
    if kept is None:
        return _converted(core, openvino, name, data, side)
    stem = f"{hashlib.sha256(data).hexdigest()}-{side}-{_CONVERSION}"
    place = kept / stem / "model.xml"
    if place.exists():
        try:
            return core.read_model(place)
        except RuntimeError as exc:
            log.warning("%s cannot be read, converting %s anew: %s", place, name, exc)
            return _converted(core, openvino, name, data, side)
    model = _converted(core, openvino, name, data, side)
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with Scratch(".converting-", kept) as draft:
            openvino.save_model(model, draft / "new" / "model.xml", compress_to_fp16=False)
            # whoever comes first keeps the place
            if not place.parent.exists():
                (draft / "new").rename(place.parent)
    except (OSError, RuntimeError) as exc:
        log.warning("the converted model cannot be kept in %s, every start converts it: %s", kept, exc)
    return model


def _converted(core: Any, openvino: Any, name: str, data: bytes, side: int) -> Any:
    if name.endswith(".onnx"):
        return _from_onnx(core, openvino, name, data, side)
    import torch  # noqa: PLC0415 - needed once for each model

    from imagetools.fingerprint.networks import FromPixels, dimension_of, load_network  # noqa: PLC0415

    network = load_network(name, data)
    dimension_of(name, network, side)
    whole = FromPixels(network).eval()
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    if isinstance(network, torch.jit.ScriptModule):
        with warnings.catch_warnings():
            # a program that came as TorchScript can only go on as TorchScript
            warnings.simplefilter("ignore", FutureWarning)
            traced = torch.jit.trace(whole, example, check_trace=False)  # type: ignore[no-untyped-call]
        model = openvino.convert_model(traced, input=[([-1, side, side, 3], openvino.Type.u8)])
    else:
        count = torch.export.Dim("count", min=1, max=1024)
        exported = torch.export.export(whole, (example,), dynamic_shapes=({0: count},))
        model = openvino.convert_model(exported)
    model.reshape([-1, side, side, 3])
    return model


def _from_onnx(core: Any, openvino: Any, name: str, data: bytes, side: int) -> Any:
    """An ONNX network of one input, float (n, 3, side, side), normalised as torchvision's are."""
    from openvino.preprocess import ColorFormat, PrePostProcessor  # noqa: PLC0415 - optional

    try:
        model = core.read_model(data, b"")
        if len(model.inputs) != 1:
            raise ModelError(f"{name}: has {len(model.inputs)} inputs; one image at a time is given")
        model.reshape([-1, 3, side, side])
        steps = PrePostProcessor(model)
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
