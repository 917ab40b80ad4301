"""`imagetools quantize`: write a model in int8, and show its speed and its recall."""

import hashlib
import os
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.model_comparison import GALLERY, compare
from cli.output_checks import check_file
from imagetools.errors import ImageError, ImageToolsError
from imagetools.fingerprint.config import DEFAULT_INPUT_SIZE, DEFAULT_MODEL, EncoderConfig
from imagetools.fingerprint.encoder import Encoder
from imagetools.fingerprint.networks import load_network
from imagetools.folder import Tally, find_images
from imagetools.hardware import usable_cores
from imagetools.image_root import ImageRoot
from training.photos import MAX_HELD_OUT
from training.quantizing import quantize as in_int8
from training.quantizing import require_libraries

CALIBRATED_WITH = 256
"""Maximum number of photos for calibration; 32 gave nearly the same ranges, 8 did not."""

LEAST = 32

WORTH = 1.1
"""Speed-up from which int8 is called faster."""

POINTS = 0.5
"""Points of R@10 that int8 may cost."""

ROUNDS = 5

PIECE = 64
"""Images to decode at a time."""


class CannotQuantize(ImageToolsError):
    """A file exists already or is missing, or there are too few photos."""


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of the command.

    out      the file to write, which ends in .onnx
    model    the file to quantize; None: the package's
    exclude  beginnings of paths in the folder to leave out
    size     pixels of the square that images are resized to
    measure  retrieval with either model
    seed     of the choice of photos
    """

    folder: Path
    out: Path
    model: Path | None = None
    exclude: tuple[str, ...] = ()
    size: int = DEFAULT_INPUT_SIZE
    measure: bool = True
    seed: int = 0


def quantize(options: QuantizeOptions, console: Console | None = None) -> None:
    """Write the model in int8, and show its speed here, its distance to the model before, and what both find.

    CannotQuantize, ModelError and PrerequisiteMissing say what is in the way.
    """
    console = console or Console(stderr=True, markup=False)
    _require_room(options)
    require_libraries()
    name = options.model.name if options.model else DEFAULT_MODEL
    data = _model(options)
    network = load_network(name, data)
    before = _encoder(options.model, options.size)
    held_out, others = _split(options, console)
    pixels = [one for _, one in islice(_read(options.folder, others, before, console), CALIBRATED_WITH)]
    if len(pixels) < LEAST:
        raise CannotQuantize(
            f"{options.folder}: {len(pixels)} images that can be read, beside {len(held_out)} to measure with; "
            f"at least {LEAST} are needed for the ranges"
        )
    shown = np.stack(pixels)
    made = in_int8(network, shown, origin=f"{name}:{hashlib.sha256(data).hexdigest()[:12]}")
    _write(options.out, made)
    console.print(f"{options.out} is written: {name} in int8, {len(made) / 1e6:.1f} MB, by {len(pixels)} photos")
    after = _encoder(options.out, options.size)
    _show_speed(before, after, shown, console)
    if options.measure:
        _show_retrieval(options, before, after, held_out, others, console)


def _require_room(options: QuantizeOptions) -> None:
    if options.out.suffix != ".onnx":
        raise CannotQuantize(f"{options.out}: a model in int8 is an ONNX file; let its name end in .onnx")
    if options.out.exists():
        raise CannotQuantize(f"{options.out}: already there")
    if not options.out.parent.is_dir():
        raise CannotQuantize(f"{options.out.parent}: no such folder")
    check_file(options.out, "--out")
    if options.model is not None and not options.model.is_file():
        raise CannotQuantize(f"{options.model}: no such file")
    if options.model is not None and options.model.suffix == ".onnx":
        raise CannotQuantize(
            f"{options.model}: an ONNX file is used as it is; only ResNet state dicts can be quantized"
        )


def _model(options: QuantizeOptions) -> bytes:
    if options.model is None:
        return (files("imagetools.models") / DEFAULT_MODEL).read_bytes()
    try:
        return options.model.read_bytes()
    except OSError as exc:
        raise CannotQuantize(f"{options.model}: {exc.strerror}") from exc


def _write(out: Path, made: bytes) -> None:
    """Write the file completely or not at all."""
    draft = out.with_suffix(".part")
    try:
        draft.write_bytes(made)
        os.replace(draft, out)
    except OSError as exc:
        draft.unlink(missing_ok=True)
        raise CannotQuantize(f"{out}: {exc.strerror}") from exc


def _encoder(file: Path | None, size: int) -> Encoder:
    if file is None:
        return Encoder.load(EncoderConfig(input_size=size))
    return Encoder.load(EncoderConfig(file.name, file.parent.resolve(), input_size=size))


def _split(options: QuantizeOptions, console: Console) -> tuple[list[str], list[str]]:
    """Return paths to measure with and all others, both shuffled."""
    passed = Tally()
    named = [p for p in find_images(options.folder, on_skipped=passed.add) if not p.startswith(options.exclude)]
    if passed.counts:
        console.print(Text(str(passed)))
    if not named:
        raise CannotQuantize(f"{options.folder}: no image in it")
    random.Random(options.seed).shuffle(named)
    apart = min(MAX_HELD_OUT, len(named) // 10) if options.measure else 0
    return named[:apart], named[apart:]


def _read(
    folder: Path, paths: Sequence[str], encoder: Encoder, console: Console
) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Yield readable images as the network takes them: path, uint8 (size, size, 3)."""
    images, side = ImageRoot(folder), encoder.config.input_size

    def read(path: str) -> npt.NDArray[np.uint8] | ImageError:
        try:
            return encoder.prepare(images.open(path, box=(side, side)))
        except ImageError as exc:
            return exc

    with ThreadPoolExecutor(usable_cores(), "decode") as pool:
        for start in range(0, len(paths), PIECE):
            piece = paths[start : start + PIECE]
            for path, one in zip(piece, pool.map(read, piece), strict=True):
                if isinstance(one, ImageError):
                    console.print(Text(f"left out: {one}"))
                else:
                    yield path, one


def _show_speed(before: Encoder, after: Encoder, pixels: npt.NDArray[np.uint8], console: Console) -> None:
    """Time both networks in turns, and show the distance of their fingerprints."""
    seconds: dict[str, list[float]] = {before.model: [], after.model: []}
    for _ in range(1 + ROUNDS):
        for encoder in (before, after):
            began = time.monotonic()
            encoder.engine.run(pixels)
            seconds[encoder.model].append(time.monotonic() - began)
    # the first round warms up
    rates = {model: len(pixels) / statistics.median(took[1:]) for model, took in seconds.items()}
    table = Table("model", "engine", "images/s")
    for encoder in (before, after):
        table.add_row(encoder.config.model, encoder.engine.name, f"{rates[encoder.model]:.0f}")
    console.print(table)
    times = rates[after.model] / rates[before.model]
    console.print(
        f"int8 takes {times:.2f} times as many images a second here"
        + ("" if times >= WORTH else f": it does not pay on this machine, keep {before.config.model}")
    )
    near = (before.encode_prepared(pixels) * after.encode_prepared(pixels)).sum(axis=1)
    console.print(
        f"cosine of their fingerprints: {near.mean():.4f} in the mean, {near.min():.4f} at least. They are two models; "
        "`imagetools reencode` moves a collection from one to the other"
    )


def _show_retrieval(
    options: QuantizeOptions,
    before: Encoder,
    after: Encoder,
    held_out: Sequence[str],
    others: Sequence[str],
    console: Console,
) -> None:
    # only the paths are kept, of up to 2,000 photos
    asked = [path for path, _ in _read(options.folder, held_out, before, console)]
    strangers = [path for path, _ in islice(_read(options.folder, others, before, console), GALLERY - len(asked))]
    if not asked:
        console.print("none of the photos that were kept apart can be read: nothing to measure with")
        return
    models = {encoder.config.model: encoder for encoder in (before, after)}
    found = compare(models, options.folder, asked, strangers, seed=options.seed, console=console)
    lost = 100 * (found[before.config.model].at(10) - found[after.config.model].at(10))
    console.print(
        f"R@10 changes by {-lost:+.1f} points"
        + ("" if lost <= POINTS else f", more than {POINTS}: keep {before.config.model}, or quantize by other photos")
    )
