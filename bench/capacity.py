"""What an index takes, measured, and what 10 million, 100 million and a billion images need by that.

    python -m bench.capacity [--images N --images N] [--folder FOLDER] [--cache FILE]

An index as it ships gets images as a replay of the log adds them, the last thousand of each size as search does:
fingerprints as bench.nearest makes them, local codes as bench.index does, paths of 40 characters. The slope between the
two sizes is what one more image takes; memory is what the operating system counts as resident. Searches are for edited
copies, by fingerprint and by local codes; beyond what was measured their time is taken to grow as the logarithm of the
number of images. All times are those of one processor, but for the seconds of a whole replay and of a snapshot.
"""

import hashlib
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from bench.candidates import EditedCopy, gather, search
from bench.embedding_cache import Cache
from bench.index import Unknown
from bench.nearest import collection, unit
from bench.pairs import SAMPLES, SHARED, PhotoSides
from imagetools.hardware import usable_cores
from imagetools.index.entry import Entry
from imagetools.index.index import Index
from schemas.codec import SingleObjectCodec
from schemas.records import Embedding
from streams.config import Config
from streams.search.log_index import codes_of
from streams.search_consumer import SearchStage
from streams.topics import EMBEDDINGS

SEARCHES = 300
ADDED = 1000
"""Images that are added as search does, at each size."""

PLANNED = (10_000_000, 100_000_000, 1_000_000_000)
REPLICAS = 3
"""Of the log."""

FULL = 0.8
"""Share of a machine's memory, of a processor and of a disk that a plan uses."""

REST_MS = 26.2
"""Encoder, matcher and Kafka, CPU ms an image: `python -m bench.cost --images 600`."""


@dataclass(frozen=True)
class IndexSize:
    """An index at one size.

    resident  bytes
    codes     bytes of these, of the local codes
    replayed  processor seconds of a replay of all
    took      seconds of a replay of all
    add       milliseconds an image that search adds
    search    milliseconds an image
    """

    images: int
    resident: int
    codes: int
    replayed: float
    took: float
    add: float
    search: float


@dataclass(frozen=True)
class IndexCosts:
    """What was measured.

    each      bytes of memory, one more image
    codes     of these, of its local codes
    record    bytes of its record in the log
    add       milliseconds
    search    milliseconds at `at` images
    """

    each: float
    codes: float
    record: float
    add: float
    search: float
    at: int

    def search_at(self, images: float) -> float:
        """Return how many milliseconds a search takes among this number of images."""
        return self.search * math.log(images) / math.log(self.at)


def measure(gallery: Sequence[Embedding], copies: Sequence[EditedCopy], sizes: Sequence[int]) -> Iterator[IndexSize]:
    """Fill an index and yield what it takes at each of the ascending sizes."""
    config, index = Config(), Index()
    vectors = collection(unit(np.stack([one.fingerprint for one in gallery])), sizes[-1], np.random.default_rng(0))
    known = [codes for one in gallery if (codes := codes_of(one.codes)) is not None]
    unknown = Unknown(known)
    before, replayed, took, number = _resident(), 0.0, 0.0, 0
    for size in sizes:
        spent = {True: 0.0, False: 0.0}
        for start in range(number, size, SearchStage.batch_size):
            batch = range(start, min(start + SearchStage.batch_size, size))
            drawn = [known[n] if n < len(known) else unknown.draw() for n in batch]
            replay = start < size - ADDED
            began, cpu = time.perf_counter(), time.process_time()
            change = index.change()
            if replay:
                change.look_ahead([vectors[n] for n in batch])
            for n, own in zip(batch, drawn, strict=True):
                digest = hashlib.sha256(b"%d" % n).digest()
                change.put(Entry(n, f"some/folder/of/photos/photo-{n:010}.jpg", n, digest, 0), vectors[n], codes=own)
            change.apply()
            spent[replay] += time.process_time() - cpu
            took += time.perf_counter() - began
        replayed += spent[True] + spent[False]
        add = 1000 * spent[False] / ADDED
        number = size
        change = index.change()
        began = time.process_time()
        for copy in copies[:SEARCHES]:
            search(change, copy.record, config.nb_neighbors, config.nb_local)
        searched = 1000 * (time.process_time() - began) / min(SEARCHES, len(copies))
        yield IndexSize(size, _resident() - before, index.local.nbytes, replayed, took, add, searched)
    _report_snapshot(index)


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def _report_snapshot(index: Index) -> None:
    """Print how long a snapshot stops the work, takes to write, and to load."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "saved")
        began = time.perf_counter()
        saving = index.begin_save(folder)
        stopped = time.perf_counter() - began
        reason = saving.wait()
        written = time.perf_counter() - began
        assert not reason, reason
        size = sum(file.stat().st_size for file in folder.rglob("*"))
        images = len(index)
        index.close()
        began = time.perf_counter()
        Index.load(folder)[0].close()
        loaded = time.perf_counter() - began
    print(
        f"snapshot of {images:,} images: {size / images:,.0f} bytes an image, stops the work for {stopped:.2f} s, "
        f"written after {written:.1f} s, loaded in {loaded:.1f} s"
    )


def costs_of(sizes: Sequence[IndexSize], gallery: Sequence[Embedding]) -> IndexCosts:
    """Return what one more image takes, from the last two sizes."""
    (first, last), codec = list(pairwise(sizes))[-1], SingleObjectCodec()
    more = last.images - first.images
    return IndexCosts(
        (last.resident - first.resident) / more,
        (last.codes - first.codes) / more,
        float(np.mean([len(codec.encode(EMBEDDINGS.name, one)) for one in gallery])),
        last.add,
        last.search,
        last.images,
    )


def plan(costs: IndexCosts, memory_gb: float, disk_tb: float, days: float) -> Table:
    """Return what each of the planned numbers of images needs."""
    table = Table("", *(f"{images:,}" for images in PLANNED), title=f"arriving within {days:g} days")
    rows: dict[str, list[str]] = {}
    for images in PLANNED:
        rate = images / days / 86_400
        shards = math.ceil(images * costs.each / (FULL * memory_gb * 1e9))
        search = costs.search_at(images / shards)
        busy = rate * (search + costs.add / shards) / 1000
        log_tb = images * costs.record * REPLICAS / 1e12
        for name, value in {
            f"shards of {memory_gb:g} GB": f"{shards:,}",
            "memory, GB": f"{images * costs.each / 1e9:,.0f}",
            "images a second that arrive": f"{rate:,.1f}",
            "a search in one shard, ms": f"{search:.2f}",
            "share of a core that a shard needs, %": f"{100 * busy:,.1f}",
            "images a second that the shards can take": f"{FULL * rate / busy:,.0f}",
            "cores of all shards": f"{busy * shards / FULL:,.2f}",
            "cores of encoders, matchers and Kafka": f"{rate * REST_MS / 1000 / FULL:,.2f}",
            f"log with {REPLICAS} replicas, TB": f"{log_tb:,.1f}",
            f"brokers with {disk_tb:g} TB": f"{max(REPLICAS, math.ceil(log_tb / FULL / disk_tb)):,}",
        }.items():
            rows.setdefault(f"extrapolated: {name}", []).append(value)
    for name, values in rows.items():
        table.add_row(name, *values)
    return table


@click.command()
@click.option("--images", "sizes", multiple=True, type=int, default=(50_000, 100_000), show_default=True)
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder of photos.")
@click.option("--cache", type=click.Path(dir_okay=False, path_type=Path), help="A file to keep descriptions in.")
@click.option("--memory-gb", default=64.0, show_default=True, help="Of a shard's machine.")
@click.option("--disk-tb", default=8.0, show_default=True, help="Of a broker.")
@click.option("--days", default=100.0, show_default=True, help="Until all images have arrived.")
def main(
    sizes: Sequence[int], folder: Path | None, cache: Path | None, memory_gb: float, disk_tb: float, days: float
) -> None:
    chosen = folder or (SHARED if SHARED.is_dir() else SAMPLES)
    sides, console = PhotoSides(chosen), Console(width=120)
    gallery, copies = gather(
        [chosen], sides.sample("fit", 91, 0), Cache(cache), lambda path: sides.side_of(path) == "fit"
    )
    measured = list(measure(gallery, copies, sorted(sizes)))
    costs = costs_of(measured, gallery)
    table = Table("measured", *(f"{size.images:,} images" for size in measured), "one more image")
    table.add_row("memory, bytes an image", *(f"{s.resident / s.images:,.0f}" for s in measured), f"{costs.each:,.0f}")
    table.add_row("of it local codes", *(f"{s.codes / s.images:,.0f}" for s in measured), f"{costs.codes:,.0f}")
    table.add_row("add, ms", *(f"{s.add:.2f}" for s in measured), "")
    table.add_row("replay, ms an image", *(f"{1000 * s.replayed / s.images:.2f}" for s in measured), "")
    table.add_row(f"replay of all on {usable_cores()} cores, s", *(f"{s.took:.0f}" for s in measured), "")
    table.add_row("search, ms", *(f"{s.search:.2f}" for s in measured), "")
    table.add_row("record in the log, bytes", *("" for _ in measured), f"{costs.record:,.0f}")
    console.print(table)
    console.print(plan(costs, memory_gb, disk_tb, days))


if __name__ == "__main__":
    main()
