"""A folder of photos, decoded once and kept small."""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from imagetools.errors import ImageError, ImageToolsError
from imagetools.folder import Skipped, find_images
from imagetools.hardware import usable_cores
from imagetools.image_root import ImageRoot

STORED_SIDE: Final = 192
"""Side in pixels of a stored photo: 0.1 MB each, and enough detail for crops at a view of 128."""

MIN_PHOTOS: Final = 100
"""Fewer give a batch too few negatives, and too few held-out photos to measure with."""

MAX_HELD_OUT: Final = 100
"""Photos kept for measuring, not for training: a tenth of the folder, up to this number."""

T = TypeVar("T")

PIXELS, NAMES = "photos.npy", "photos.json"


class TooFewPhotos(ImageToolsError):
    """A folder with too few photos to train on."""


@dataclass(frozen=True)
class TrainingPhotos:
    """Decoded photos.

    paths     relative to the folder, sorted
    pixels    uint8 (n, side, side, 3), memory-mapped
    aspects   float32 (n,), width / height before squeezing
    held_out  paths of the photos kept for measuring; not in `paths`
    """

    paths: tuple[str, ...]
    pixels: npt.NDArray[np.uint8]
    aspects: npt.NDArray[np.float32]
    held_out: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of photos to train on."""
        return len(self.paths)


def read_photos(
    folder: Path,
    store: Path,
    *,
    side: int = STORED_SIDE,
    seed: int = 0,
    exclude: Sequence[str] = (),
    on_read: Callable[[int, int], None] | None = None,
    on_skipped: Callable[[ImageError], None] | None = None,
    on_passed_over: Callable[[Skipped], None] | None = None,
) -> TrainingPhotos:
    """Decode every photo of a folder into `store`; TooFewPhotos if there are too few.

    exclude         path prefixes to leave out
    on_read         called with the number of photos read and their total
    on_skipped      called with the error of each unreadable image, which is left out
    on_passed_over  called as `find_images` calls its on_skipped
    """
    named = [path for path in find_images(folder, on_skipped=on_passed_over) if not path.startswith(tuple(exclude))]
    if not named:
        raise TooFewPhotos(f"{folder}: no image in it")
    refuse_few(folder, len(named))
    held_out = set(random.Random(seed).sample(named, min(MAX_HELD_OUT, len(named) // 10)))
    paths = [path for path in named if path not in held_out]
    images = ImageRoot(folder)

    def read(path: str) -> tuple[npt.NDArray[np.uint8], float] | ImageError:
        try:
            image = images.open(path, box=(side, side))
        except ImageError as exc:
            return exc
        small = image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)
        return np.asarray(small), image.width / image.height

    store.mkdir(parents=True, exist_ok=True)
    pixels = np.lib.format.open_memmap(store / PIXELS, "w+", np.uint8, (len(paths), side, side, 3))
    kept: list[str] = []
    aspects: list[float] = []
    with ThreadPoolExecutor(usable_cores(), "decode") as pool:
        for done, (path, one) in enumerate(zip(paths, _ahead(pool, read, paths), strict=True), start=1):
            if isinstance(one, ImageError):
                if on_skipped:
                    on_skipped(one)
            else:
                pixels[len(kept)] = one[0]
                aspects.append(one[1])
                kept.append(path)
            if on_read:
                on_read(done, len(paths))
        unreadable = {path for path in sorted(held_out) if isinstance(read(path), ImageError)}
    pixels.flush()
    refuse_few(folder, len(kept) + len(held_out) - len(unreadable))
    apart = tuple(sorted(held_out - unreadable))
    (store / NAMES).write_text(json.dumps({"paths": kept, "aspects": aspects, "held_out": apart}), "utf-8")
    return stored_photos(store)


def stored_photos(store: Path) -> TrainingPhotos:
    """Return what `read_photos` wrote, without reading the folder again; OSError if there is nothing."""
    names = json.loads((store / NAMES).read_text("utf-8"))
    pixels = np.load(store / PIXELS, mmap_mode="r")[: len(names["paths"])]
    return TrainingPhotos(
        tuple(names["paths"]), pixels, np.array(names["aspects"], np.float32), tuple(names["held_out"])
    )


def refuse_few(folder: Path, count: int) -> None:
    """Raise TooFewPhotos below MIN_PHOTOS."""
    if count < MIN_PHOTOS:
        raise TooFewPhotos(f"{folder}: {count} images that can be read; at least {MIN_PHOTOS} are needed to learn from")


def _ahead(pool: ThreadPoolExecutor, read: Callable[[str], T], paths: Iterable[str]) -> Iterable[T]:
    """Map like `pool.map`, with no more than a few hundred results in memory."""
    rest = iter(paths)
    while chunk := list(islice(rest, 256)):
        yield from pool.map(read, chunk)
