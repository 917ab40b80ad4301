"""The cost of a fingerprint from an image file, against a plain loop and the processor's limit.

    python -m bench.encode [--photos FOLDER] [--images N] [--memory N]

The sides alternate on the same files in one run, so that a drift of the machine affects all of them:
plain, one by one    PIL, torchvision's transform, and the network in torch eager float32, one image at a time
plain, in batches    the same, 32 images at a time
each engine          the encoder: threads decode, at reduced size if the format allows it, while the network runs;
                     OpenVINO also in float32, and in int8 by `imagetools quantize`
The limit is the speed of large matrix products on this processor, divided by the network's need (1.82 GFLOP at 224
pixels, proportional to the area). Networks can exceed it: some convolutions save multiplications. int8 is held against
the limit of bfloat16.
"""

import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import psutil
import torch
from PIL import Image
from platformdirs import user_cache_path
from rich.console import Console
from rich.table import Table
from torchvision.transforms import functional

from bench.pairs import HELD_OUT, SERIES, SHARED
from cli.quantize import CannotQuantize, QuantizeOptions, quantize
from imagetools.decode import decode
from imagetools.errors import PrerequisiteMissing
from imagetools.fingerprint.config import DEFAULT_MODEL, EncoderConfig
from imagetools.fingerprint.encoder import Encoder
from imagetools.fingerprint.networks import load_network
from imagetools.fingerprint.normalization import IMAGENET_DEVIATION, IMAGENET_MEAN
from imagetools.folder import find_images
from imagetools.hardware import processor_computes_bfloat16, usable_cores

ROUNDS = 3
GFLOP_AT_224 = 3.64
"""Multiplications and additions of ResNet-18 (He et al. 2016, table 1: 1.8 billion multiply-adds)."""

FLOAT32 = "openvino, float32"
MATRIX = 1536
SIZES = {"400 × 533": (400, 533), "12 megapixels": (3000, 4000)}

STARTED = """
import time
began = time.monotonic()
from pathlib import Path
from PIL import Image
from platformdirs import user_cache_path
from imagetools.fingerprint.config import EncoderConfig
from imagetools.fingerprint.encoder import Encoder
encoder = Encoder.load(EncoderConfig(engine={engine!r}, kept=user_cache_path("imagetools")))
encoder.encode([Image.new("RGB", (9, 9), "red")])
print(time.monotonic() - began)
"""


@click.command()
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder of photos.")
@click.option("--images", default=192, show_default=True, help="Files of each size.")
@click.option("--memory", default=0, show_default=True, help="Encode this many images more, and watch the memory.")
def main(photos: Path | None, images: int, memory: int) -> None:
    """Compare the sides."""
    console = Console()
    folder = photos or (SHARED if SHARED.is_dir() else Path(__file__).resolve().parents[1] / "cli" / "samples")
    sources = [folder / path for path in find_images(folder)]
    console.print(f"{usable_cores()} cores, bfloat16 {'native' if processor_computes_bfloat16() else 'not native'}")
    with tempfile.TemporaryDirectory() as scratch:
        encoders = _encoders(console, folder, Path(scratch))
        limits = _print_limits(console, encoders["torch"].config.input_size)
        for label, size in SIZES.items():
            count = images if size[0] < 1000 else max(8, images // 8)
            files = _written(Path(scratch) / label, sources, size, count)
            _compare(console, label, files, encoders, limits)
        _model_alone(console, encoders, limits)
        _starts(console)
        if memory:
            _watch_memory(console, encoders["openvino"], files_of(Path(scratch) / "400 × 533"), memory)


def _encoders(console: Console, photos: Path, scratch: Path) -> dict[str, Encoder]:
    """Return the engines for the default model; int8 only with its libraries and with photos for its ranges."""
    kept = user_cache_path("imagetools")
    encoders = {name: Encoder.load(EncoderConfig(engine=name, kept=kept)) for name in ("torch", "openvino")}
    if processor_computes_bfloat16():
        encoders[FLOAT32] = Encoder.load(EncoderConfig(engine="openvino", bfloat16=False, kept=kept))
    try:
        options = QuantizeOptions(photos, scratch / "resnet18-int8.onnx", exclude=(HELD_OUT, *SERIES), measure=False)
        quantize(options, Console(quiet=True))
    except (PrerequisiteMissing, CannotQuantize) as exc:
        console.print(f"int8 is left out: {exc}")
        return encoders
    encoders["openvino, int8"] = Encoder.load(EncoderConfig(options.out.name, scratch))
    return encoders


def files_of(folder: Path) -> list[Path]:
    """Return the files in a folder."""
    return sorted(folder.iterdir())


def _written(folder: Path, sources: Sequence[Path], size: tuple[int, int], count: int) -> list[Path]:
    folder.mkdir()
    step = max(1, len(sources) // count)
    for i in range(count):
        with Image.open(sources[i * step % len(sources)]) as photo:
            photo.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(folder / f"{i:05}.jpg", quality=88)
    return files_of(folder)


def _compare(
    console: Console, label: str, files: Sequence[Path], encoders: dict[str, Encoder], limits: dict[str, float]
) -> None:
    plain = Plain(encoders["torch"].config.input_size)
    ways: dict[str, Callable[[], npt.NDArray[np.float32]]] = {
        "plain, one by one": lambda: plain.encode(files, 1),
        "plain, in batches": lambda: plain.encode(files, 32),
    }
    pool = ThreadPoolExecutor(usable_cores())
    for name, encoder in encoders.items():
        ways[f"encoder, {name}"] = lambda encoder=encoder: _encoded(encoder, pool, files)  # type: ignore[misc]
    took: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, npt.NDArray[np.float32]] = {}
    for way in ways.values():
        way()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.monotonic()
            found[name] = way()
            took[name].append(time.monotonic() - began)
    pool.shutdown()
    rates = {name: len(files) / statistics.median(seconds) for name, seconds in took.items()}
    table = Table("", "images/s", "ms an image", "× one by one", "of the limit", title=f"{len(files)} JPEGs, {label}")
    for name, rate in rates.items():
        share = f"{rate / _limit(encoders.get(name.removeprefix('encoder, ')), limits):.0%}"
        table.add_row(name, f"{rate:.1f}", f"{1000 / rate:.1f}", f"{rate / rates['plain, one by one']:.2f}", share)
    console.print(table)
    if f"encoder, {FLOAT32}" in rates:
        times = rates["encoder, openvino"] / max(rates[name] for name in rates if "plain" in name or FLOAT32 in name)
        console.print(f"the default is {times:.2f} times as fast as the best way in float32")
    for name in encoders.keys() - {"torch"}:
        near = (found["encoder, torch"] * found[f"encoder, {name}"]).sum(axis=1).min()
        console.print(f"least cosine between torch and {name}: {near:.6f}")


def _limit(encoder: Encoder | None, limits: dict[str, float]) -> float:
    """Return an encoder's arithmetic; float32 for the plain loop, which has no encoder."""
    low = encoder is not None and "float32" not in encoder.engine.name and processor_computes_bfloat16()
    return limits["bfloat16" if low else "float32"]


class Plain:
    """The plain loop."""

    def __init__(self, side: int) -> None:
        data = (Path(__file__).resolve().parents[1] / "imagetools" / "models" / DEFAULT_MODEL).read_bytes()
        self._network = load_network(DEFAULT_MODEL, data)
        self._side = side

    @torch.inference_mode()
    def encode(self, files: Sequence[Path], size: int) -> npt.NDArray[np.float32]:
        """Return fingerprints, computed `size` images at a time."""
        rows = []
        for i in range(0, len(files), size):
            batch = torch.stack([self._opened(file) for file in files[i : i + size]])
            rows.append(torch.nn.functional.normalize(self._network(batch)).numpy())
        return np.concatenate(rows)

    def _opened(self, file: Path) -> torch.Tensor:
        image: Any = functional.resize(Image.open(file).convert("RGB"), [self._side, self._side])  # type: ignore[arg-type]
        return functional.normalize(functional.to_tensor(image), list(IMAGENET_MEAN), list(IMAGENET_DEVIATION))


def _encoded(encoder: Encoder, pool: ThreadPoolExecutor, files: Sequence[Path]) -> npt.NDArray[np.float32]:
    side = encoder.config.input_size

    def prepared(file: Path) -> npt.NDArray[np.uint8]:
        return encoder.prepare(decode(file.read_bytes(), file.name, box=(side, side)))

    return encoder.encode_prepared(pool.map(prepared, files))


def _print_limits(console: Console, side: int) -> dict[str, float]:
    """Return the processor's limit in images a second, by arithmetic."""
    gflop = GFLOP_AT_224 * (side / 224) ** 2
    limits = {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        left, right = (torch.randn(MATRIX, MATRIX).to(kind) for _ in range(2))
        seconds = []
        for _ in range(6):
            began = time.monotonic()
            left @ right
            seconds.append(time.monotonic() - began)
        rate = 2 * MATRIX**3 / min(seconds) / 1e9
        limits[name] = rate / gflop
        console.print(f"limit by {name} multiplication: {rate:.0f} GFLOP/s, {limits[name]:.0f} images/s of {side} px")
    return limits


def _model_alone(console: Console, encoders: dict[str, Encoder], limits: dict[str, float]) -> None:
    side = encoders["torch"].config.input_size
    pixels = np.random.default_rng(0).integers(0, 256, (128, side, side, 3), dtype=np.uint8)
    table = Table("the network alone", "images/s", "of the limit")
    for encoder in encoders.values():
        encoder.engine.run(pixels)
        seconds = []
        for _ in range(ROUNDS):
            began = time.monotonic()
            encoder.engine.run(pixels)
            seconds.append(time.monotonic() - began)
        rate = len(pixels) / statistics.median(seconds)
        table.add_row(encoder.engine.name, f"{rate:.1f}", f"{rate / _limit(encoder, limits):.0%}")
    console.print(table)


def _starts(console: Console) -> None:
    table = Table("from the process's start to its first fingerprint", "seconds, median of three")
    for engine in ("torch", "openvino"):
        command = [sys.executable, "-c", STARTED.format(engine=engine)]
        runs = [subprocess.run(command, check=True, capture_output=True) for _ in range(ROUNDS)]
        seconds = [float(run.stdout) for run in runs]
        table.add_row(engine, f"{statistics.median(seconds):.2f}")
    console.print(table)


def _watch_memory(console: Console, encoder: Encoder, files: Sequence[Path], count: int) -> None:
    """Return the resident memory after each tenth of `count` images, in batches of random length."""
    lengths: Iterator[int] = iter(np.random.default_rng(0).integers(1, 65, count).tolist())
    process, done, marks = psutil.Process(), 0, []
    with ThreadPoolExecutor(usable_cores()) as pool:
        while done < count:
            batch = [files[(done + i) % len(files)] for i in range(next(lengths))]
            _encoded(encoder, pool, batch)
            if done * 10 // count != (done + len(batch)) * 10 // count:
                gc.collect()
                marks.append(process.memory_info().rss / 2**20)
            done += len(batch)
    console.print(f"resident MiB over {count:,} images: {', '.join(f'{mark:.0f}' for mark in marks)}")


if __name__ == "__main__":
    main()
