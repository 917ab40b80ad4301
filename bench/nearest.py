"""Engines for the nearest fingerprints beside brute force, as a collection grows: recall, searches, adds and memory.

    python -m bench.nearest [--images N ...] [--folder FOLDER] [--side fit|report] [--engine NAME]
                          [--cache FILE]

Fingerprints are those of photos, and beyond their number mixtures: two photos' in a random proportion, and noise. The
searches are for edited copies of photos. "Recall" is the share of the true ten nearest among the ten that were found;
"copies" is the share of the copies whose original is among them. An engine adds images in batches, as search does.
All times are those of one processor. hnswlib is measured where it is installed (`pip install hnswlib`, which needs a
C++ compiler). The size of an image is that of the saved graph; bench.capacity measures memory.
"""

import importlib
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click
import ngtpy
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.candidates import gather
from bench.embedding_cache import Cache
from bench.pairs import SAMPLES, SHARED, PhotoSides
from imagetools.index.config import IndexConfig
from imagetools.index.distance import Vector
from imagetools.index.usearch_graph import UsearchGraph

WANTED = 10
BATCH = 32
NOISE = 0.3
"""Length of the noise beside a mixture of length 1."""

Vectors = NDArray[np.float32]


class Asked(NamedTuple):
    """Searches, float32 (q, d); the row of each one's original; the rows of its ten nearest, (q, 10)."""

    vectors: Vectors
    originals: NDArray[np.int64]
    nearest: NDArray[np.int64]


@dataclass(frozen=True)
class SearchEngine:
    """A way to find the nearest.

    settings  of a search, each with a name
    build     makes a graph of the vectors in a folder, and returns a search: from a vector and a setting to its rows
    """

    name: str
    settings: Sequence[Any]
    build: Callable[[Vectors, Path], Callable[[Vector, Any], list[int]]]


def collection(photos: Vectors, images: int, rng: np.random.Generator) -> Vectors:
    """Return the fingerprints of photos and of mixtures of them, float32 (images, d), of length 1."""
    every = np.empty((images, photos.shape[1]), np.float32)
    every[: len(photos)] = photos
    spread = photos.std(axis=0)
    for start in range(len(photos), images, 1 << 13):
        count = min(1 << 13, images - start)
        first, second = rng.integers(0, len(photos), (2, count))
        share = rng.uniform(0.3, 0.7, (count, 1)).astype(np.float32)
        mixed = unit(share * photos[first] + (1 - share) * photos[second])
        every[start : start + count] = unit(mixed + NOISE * unit(rng.normal(0, spread, mixed.shape)))
    return every


def unit(rows: NDArray[Any]) -> Vectors:
    """Return the rows at length 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def usearch(vectors: Vectors, folder: Path) -> Callable[[Vector, Any], list[int]]:
    """As it ships; the setting is the expansion of a search."""
    graphs: dict[int, UsearchGraph] = {}
    graph = UsearchGraph(folder / "none", IndexConfig(engine="USearch", threads=1))
    for start in range(0, len(vectors), BATCH):
        for vector in vectors[start : start + BATCH]:
            graph.insert(vector)
        graph.build()
    graph.copy_to(folder / "graph")

    def search(vector: Vector, expansion: int) -> list[int]:
        if expansion not in graphs:
            config = IndexConfig(engine="USearch", expansion=expansion)
            graphs.clear()
            graphs[expansion] = UsearchGraph(folder / "graph", config, vectors.shape[1])
        return [node for node, _ in graphs[expansion].search(vector, WANTED)]

    return search


def ngt(edges: int) -> Callable[[Vectors, Path], Callable[[Vector, Any], list[int]]]:
    """NGT with this many edges of a new node, all of which a search follows; the setting is epsilon."""

    def build(vectors: Vectors, folder: Path) -> Callable[[Vector, Any], list[int]]:
        at = str(folder / "graph")
        ngtpy.create(at, vectors.shape[1], edges, 0, distance_type="Normalized Cosine")
        index = ngtpy.Index(at, log_disabled=True)
        for start in range(0, len(vectors), BATCH):
            for vector in vectors[start : start + BATCH]:
                index.insert(vector)
            index.build_index(1)
        index.save()
        return lambda vector, epsilon: [node for node, _ in index.search(vector, WANTED, epsilon=epsilon)]

    return build


def hnswlib(vectors: Vectors, folder: Path) -> Callable[[Vector, Any], list[int]]:
    """HNSW over numbers of 32 bits; the setting is ef."""
    index = importlib.import_module("hnswlib").Index("ip", vectors.shape[1])
    index.init_index(len(vectors), M=16, ef_construction=100)
    for start in range(0, len(vectors), BATCH):
        index.add_items(vectors[start : start + BATCH], np.arange(start, min(start + BATCH, len(vectors))), 1)
    (folder / "graph").mkdir()
    index.save_index(str(folder / "graph" / "index"))

    def search(vector: Vector, ef: int) -> list[int]:
        index.set_ef(ef)
        found: list[int] = index.knn_query(vector, WANTED, num_threads=1)[0][0].tolist()
        return found

    return search


def engines() -> Iterator[SearchEngine]:
    """Yield what is there."""
    yield SearchEngine("USearch, as it ships: expansion", (16, 32, 64, 128), usearch)
    for edges in (10, 20):
        yield SearchEngine(f"NGT, {edges} edges: epsilon", (0.05, 0.1, 0.2), ngt(edges))
    if importlib.util.find_spec("hnswlib") is not None:
        yield SearchEngine("hnswlib, M 16: ef", (16, 32, 64, 128), hnswlib)


def measure(table: Table, engine: SearchEngine, vectors: Vectors, asked: Asked) -> None:
    """Add a row for each setting of an engine."""
    with tempfile.TemporaryDirectory() as name:
        began = time.process_time()
        search = engine.build(vectors, Path(name))
        add = 1000 * (time.process_time() - began) / len(vectors)
        size = sum(file.stat().st_size for file in Path(name, "graph").iterdir()) / len(vectors)
        for setting in engine.settings:
            search(asked.vectors[0], setting)
            began = time.process_time()
            found = [search(vector, setting) for vector in asked.vectors]
            rate = len(found) / (time.process_time() - began)
            table.add_row(
                f"{engine.name} {setting}", *shares(found, asked), f"{rate:,.0f}", f"{add:.2f}", f"{size:,.0f}"
            )


def shares(found: Sequence[Sequence[int]], asked: Asked) -> tuple[str, str]:
    """Return recall and the share of the copies, in %."""
    recall = np.mean(
        [len(set(one) & set(true)) / WANTED for one, true in zip(found, asked.nearest.tolist(), strict=True)]
    )
    copies = np.mean([original in one for one, original in zip(found, asked.originals.tolist(), strict=True)])
    return f"{100 * recall:.1f}", f"{100 * copies:.1f}"


@click.command()
@click.option("--images", "sizes", multiple=True, type=int, default=(30_000, 100_000), show_default=True)
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder of photos.")
@click.option("--side", type=click.Choice(["fit", "report"]), default="report", show_default=True)
@click.option("--count", default=91, show_default=True, help="Photos to edit, at most.")
@click.option("--engine", "wanted", type=click.Choice(["USearch", "NGT", "hnswlib"]), help="By default, all of them.")
@click.option("--cache", type=click.Path(dir_okay=False, path_type=Path), help="A file to keep descriptions in.")
def main(
    sizes: Sequence[int], folder: Path | None, side: str, count: int, wanted: str | None, cache: Path | None
) -> None:
    chosen = folder or (SHARED if SHARED.is_dir() else SAMPLES)
    sides = PhotoSides(chosen)
    gallery, copies = gather(
        [chosen], sides.sample("fit" if side == "fit" else "report", count, 0), Cache(cache),
        lambda path: sides.side_of(path) == side,
    )  # fmt: skip
    photos = unit(np.stack([one.fingerprint for one in gallery]))
    rows = {one.relative_path: row for row, one in enumerate(gallery)}
    known = [copy for copy in copies if copy.original in rows]
    queries = unit(np.stack([copy.record.fingerprint for copy in known]))
    for size in sizes:
        rng = np.random.default_rng(0)
        # photos are not the first that come
        order = rng.permutation(max(size, len(photos)))
        places = np.argsort(order)
        vectors = collection(photos, len(order), rng)[order]
        began = time.process_time()
        nearest = np.stack([np.argpartition(-(vectors @ query), WANTED)[:WANTED] for query in queries])
        rate = len(queries) / (time.process_time() - began)
        asked = Asked(queries, places[[rows[copy.original] for copy in known]], nearest)
        table = Table(
            "engine and setting", "recall, %", "copies, %", "searches a second", "add, ms", "bytes an image",
            title=f"{len(order):,} images, {len(queries):,} copies of {len(rows):,} photos",
        )  # fmt: skip
        table.add_row("brute force", *shares(nearest.tolist(), asked), f"{rate:,.0f}", "", f"{vectors[0].nbytes:,}")
        for engine in engines():
            if not engine.name.startswith(wanted or ""):
                continue
            measure(table, engine, vectors, asked)
        Console(width=130).print(table)


if __name__ == "__main__":
    main()
