"""The processor time of `imagetools find`, by stage and by step.

    python -m bench.cost [--photos FOLDER] [--images N] [--megapixels M] [--encoders N] [--model FILE]

A first job on one photo measures the start-up of each process, which is subtracted. CPU seconds are those of all
threads of a process, sampled every fifth of a second, and so is the most resident memory. To measure on one core, put
`taskset -c 0` before the command. A second measurement runs the stages' steps one after the other,
in one thread, over some of the photos, and beside it what a second look at each file would add. With --megapixels the
photos are enlarged first, with grain, to JPEGs of some .3 bytes a pixel, as cameras write them. For scale: a perceptual
hash of the same files, with a thread for each core.
"""

import hashlib
import os
import random
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import click
import cv2
import imagehash
import numpy as np
import psutil
from PIL import Image
from platformdirs import user_cache_path
from rich.console import Console
from rich.table import Table

from bench.pairs import SAMPLES, SERIES, SHARED
from cli.find import find
from cli.find_results import FindResults
from cli.supervising.stage_bars import STAGES
from imagetools.decode import decode
from imagetools.features.extract import extract
from imagetools.features.store import FeatureStore
from imagetools.fingerprint.config import EncoderConfig
from imagetools.fingerprint.encoder import BATCH_SIZE, Encoder
from imagetools.folder import find_images
from imagetools.folder_storage import file_state
from imagetools.hardware import usable_cores
from imagetools.image_root import ImageRoot
from imagetools.index.entry import Entry
from imagetools.index.index import Index
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import verify
from streams.service import keep_freed_memory

SAMPLE_S = 0.2
STEPWISE = 600
"""Photos for the measurement by step."""

LIMIT_MS = 15.0

SECOND_LOOK = "not done: a second reading and decoding"
HANDED_OVER = ("encoder: features to the store", "matcher: features from the store")

GRAIN = 9.0
"""Levels, the standard deviation of what makes an enlarged photo as hard to compress as a camera's."""

ROOM_BYTES = 10**10


class Watch:
    """Samples the CPU seconds and the memory of this process's children while the context lasts.

    peak  the most resident memory by stage, bytes
    """

    def __init__(self) -> None:
        self.peak: dict[str, int] = defaultdict(int)
        self._seen: dict[tuple[str, int], float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def seconds(self) -> dict[str, float]:
        """Return CPU seconds by stage, and of Kafka."""
        found: dict[str, float] = defaultdict(float)
        for (name, _), seconds in self._seen.items():
            found[name] += seconds
        return found

    def _look(self) -> None:
        own = psutil.Process()
        while not self._ended.wait(SAMPLE_S):
            resident: dict[str, int] = defaultdict(int)
            for process in own.children(recursive=True):
                try:
                    words, (user, system) = process.cmdline(), process.cpu_times()[:2]
                    taken = process.memory_info().rss
                except psutil.Error:
                    continue
                named = [stage for stage in STAGES if stage in words]
                name = named[0] if named else "kafka" if words and "java" in Path(words[0]).name else ""
                if name:
                    self._seen[name, process.pid] = user + system
                    resident[name] += taken
            for stage, together in resident.items():
                self.peak[stage] = max(self.peak[stage], together)


@click.command()
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder of photos.")
@click.option("--images", default=3000, show_default=True, type=click.IntRange(1), help="Photos to take, at most.")
@click.option("--megapixels", type=click.FloatRange(0.1, 100), help="Enlarge the photos to this size first.")
@click.option("--encoders", default=1, show_default=True, type=click.IntRange(1), help="Encoder processes.")
@click.option("--model", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A model file.")
def main(photos: Path | None, images: int, megapixels: float | None, encoders: int, model: Path | None) -> None:
    """Time the whole job, its stages, their steps, and a perceptual hash."""
    # as the stages do
    keep_freed_memory()
    console = Console(width=120)
    source = photos or (SHARED if SHARED.is_dir() else SAMPLES)
    named = [path for path in find_images(source) if not path.startswith(SERIES)]
    chosen = random.Random(0).sample(named, min(len(named), images))
    environ = {
        **os.environ,
        **({"MODELS_DIR": str(model.parent.resolve()), "MODELS_NAME": model.name} if model else {}),
    }
    with tempfile.TemporaryDirectory() as scratch:
        one, many = Path(scratch) / "one", Path(scratch) / "many"
        for folder, paths in ((one, chosen[:1]), (many, chosen)):
            folder.mkdir()
            for number, path in enumerate(paths):
                if megapixels is None:
                    shutil.copyfile(source / path, folder / f"{number:05}{Path(path).suffix}")
                else:
                    _enlarge(source / path, folder / f"{number:05}.jpg", megapixels)
        _, start, watched = _run(one, environ, encoders)
        starting = watched.seconds
        features = Path(scratch) / "features"
        found, took, watched = _run(many, {**environ, "FEATURES_DIR": str(features)}, encoders)
        console.print(
            f"{len(chosen):,} photos, {found.pairs:,} pairs found in {took:.1f} s, of which start-up {start:.1f}"
        )
        steady = {name: max(0.0, seconds - starting.get(name, 0.0)) for name, seconds in watched.seconds.items()}
        console.print(_by_stage(steady, watched.peak, took - start, len(chosen)))
        kept = sum(file.stat().st_size for file in features.rglob("*") if file.is_file())
        console.print(f"features on disk: {kept / 1e6:,.0f} MB, {kept / len(chosen) / 1000:,.0f} KB an image")
        console.print(_by_step(many, model))
        console.print(_hashed(many))


def _run(folder: Path, environ: Mapping[str, str], encoders: int) -> tuple[FindResults, float, Watch]:
    """Run the job; return its findings, the seconds it took, and what its processes took."""
    began = time.monotonic()
    with Watch() as watch:
        found = find(folder, None, encoders=encoders, environ=environ, console=Console(quiet=True))
    return found, time.monotonic() - began, watch


def _by_stage(seconds: Mapping[str, float], peak: Mapping[str, int], took: float, images: int) -> Table:
    cores = usable_cores()
    each = 1000 * took / images
    table = Table("", "CPU ms an image", f"of {cores} cores", "memory, MB", title="the whole job")
    for name, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{1000 * spent / images:.1f}", f"{spent / took / cores:.0%}", f"{peak[name] / 1e6:,.0f}")
    table.add_section()
    total = sum(seconds.values())
    table.add_row(
        "all", f"{1000 * total / images:.1f}", f"{total / took / cores:.0%}", f"{sum(peak.values()) / 1e6:,.0f}"
    )
    first = max(STAGES, key=lambda stage: seconds.get(stage, 0.0))
    said = "within" if each <= LIMIT_MS else "above"
    table.caption = (
        f"{each:.1f} ms an image ({1000 / each:.0f} a second), {said} {LIMIT_MS:.0f}; the bottleneck is the {first}"
    )
    return table


class Steps:
    """Adds up CPU seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time inside the context."""
        began = time.process_time()
        yield
        self.seconds[name] += time.process_time() - began


def _enlarge(source: Path, target: Path, megapixels: float) -> None:
    with Image.open(source) as image:
        photo = image.convert("RGB")
    scale = (megapixels * 1e6 / (photo.width * photo.height)) ** 0.5
    large = np.asarray(photo.resize((round(photo.width * scale), round(photo.height * scale))), np.float32)
    tile = np.random.default_rng(0).normal(0, GRAIN, (701, 701, 1)).astype(np.float32)
    rows, columns = (-(-side // 701) for side in large.shape[:2])
    grain = np.tile(tile, (rows, columns, 1))[: large.shape[0], : large.shape[1]]
    Image.fromarray((large + grain).clip(0, 255).astype(np.uint8)).save(target, quality=88)


def _by_step(folder: Path, model: Path | None) -> Table:
    paths = list(find_images(folder))[:STEPWISE]
    images, step, config = ImageRoot(folder), Steps(), MatcherConfig()
    chosen = {"model": model.name, "folder": model.parent.resolve()} if model else {}
    encoder = Encoder.load(EncoderConfig(kept=user_cache_path("imagetools"), **chosen))  # type: ignore[arg-type]
    encoder.engine.run(encoder.prepare(images.open(paths[0]))[None])
    # the stages' threads are the parallelism
    cv2.setNumThreads(1)
    pixels, digests, pairs, looked = [], [], [], {}
    for path in paths:
        with step("encoder: reading and its digest"):
            data = images.read(path)
            digests.append(hashlib.sha256(data).digest())
        with step("encoder: decoding"):
            image = decode(data, path, box=config.box)
        with step("encoder: resizing"):
            pixels.append(encoder.prepare(image))
        with step("encoder: keypoints and codes"):
            looked[path] = extract(image, config)
    with step("encoder: the network"):
        rows = encoder.encode_prepared(pixels)
    index = Index()
    for start in range(0, len(paths), 32):
        with step("search"):
            change = index.change()
            for i in range(start, min(start + 32, len(paths))):
                near = change.search(rows[i], 10, digest=digests[i])
                pairs += [(paths[i], one.relative_path) for one in near if not one.identical]
                change.add(Entry(i, paths[i], digest=digests[i]), rows[i])
            change.apply()
    index.close()
    states = {path: file_state(folder, path) or "" for path in paths}
    with tempfile.TemporaryDirectory() as kept, closing(FeatureStore(Path(kept), ROOM_BYTES, config)) as store:
        with step(HANDED_OVER[0]):
            for start in range(0, len(paths), BATCH_SIZE):
                for path in paths[start : start + BATCH_SIZE]:
                    store.put(images, path, states[path], looked[path])
                store.flush()
        needed = dict.fromkeys(path for pair in pairs for path in pair)
        with step(HANDED_OVER[1]):
            seen = {path: store.get(images, path, states[path]) for path in needed}
    with step("matcher: comparing"):
        for one, two in pairs:
            verify(seen[one] or looked[one], seen[two] or looked[two], config)
    for path in needed:
        with step(SECOND_LOOK):
            images.open(path, box=config.box)
    return _step_table(step.seconds, len(paths), len(pairs))


def _step_table(seconds: Mapping[str, float], images: int, pairs: int) -> Table:
    table = Table("", "CPU ms an image", title=f"step by step, {images:,} of the photos, {pairs:,} pairs")
    each = {name: 1000 * spent / images for name, spent in seconds.items()}
    for name, spent in each.items():
        if name == SECOND_LOOK:
            table.add_section()
        table.add_row(name, f"{spent:.2f}")
    once = sum(each.values()) - each[SECOND_LOOK]
    twice = once - sum(each[name] for name in HANDED_OVER) + each[SECOND_LOOK]
    table.caption = f"one look at each file: {once:.1f} ms; two, and no store: {twice:.1f} ms; {once / twice:.2f} of it"
    return table


def _hashed(folder: Path) -> str:
    images, paths = ImageRoot(folder), list(find_images(folder))
    began, cpu = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(lambda path: imagehash.phash(images.open(path)), paths))
    each, spent = (1000 * seconds / len(paths) for seconds in (time.monotonic() - began, time.process_time() - cpu))
    return f"for scale, a perceptual hash of each: {each:.1f} ms an image, {spent:.1f} CPU ms"


if __name__ == "__main__":
    main()
