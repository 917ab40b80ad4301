"""A graph by USearch: HNSW (Malkov, Yashunin, 2016) over vectors of 16 bits a number.

Distances are computed by whatever instructions the processor has; the wheel holds code for all.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import ngtpy  # noqa: F401  # loaded after USearch, NGT refuses every vector
import numpy as np
from usearch.index import Index as Hnsw

from imagetools.index.config import IndexConfig
from imagetools.index.distance import Vector, distances, score_of
from imagetools.index.graph import Graph

EDGES: Final = 16
"""Of a node, and twice as many on the lowest level."""

EXPANSION_ADD: Final = 128
"""Nodes that are looked at for the edges of a new one."""

FEW: Final = 1024
"""Among as few nodes all are looked at, which takes no longer and misses none."""

_FILE: Final = "hnsw"


class UsearchGraph(Graph):
    """A graph in memory alone; `copy_to` writes it.

    Where only the direction of a vector counts, its numbers are rounded to 16 bits, which changes a score by 1e-5.
    Scores are computed again from the rounded vectors, so that a fingerprint has the same one wherever it stands.
    """

    def __init__(self, folder: Path, config: IndexConfig, dimension: int | None = None) -> None:
        """See `open_graph`."""
        super().__init__(config, dimension)
        self._by_direction = config.distance_type != "L2"
        self._hnsw: Hnsw | None = None
        # nodes that were removed, and the least that never was one
        self._free: list[int] = []
        self._next = 0
        self._inserted: dict[int, Vector] = {}
        if folder.is_dir():
            self._hnsw = self._made()
            self._hnsw.load(folder / _FILE)
            nodes = np.sort(np.asarray(self._hnsw.keys[:], np.int64))
            self._next = int(nodes.max(initial=-1)) + 1
            self._free = np.setdiff1d(np.arange(self._next), nodes, assume_unique=True).tolist()

    def insert(self, vector: Vector) -> int:
        """See `Graph`."""
        self.dimension = vector.size
        if self._free:
            node = self._free.pop()
        else:
            node, self._next = self._next, self._next + 1
        self._inserted[node] = self.kept(vector)
        return node

    def build(self) -> None:
        """See `Graph`."""
        if not self._inserted:
            return
        if self._hnsw is None:
            self._hnsw = self._made()
        nodes = np.fromiter(self._inserted, np.uint64, len(self._inserted))
        self._hnsw.add(nodes, np.stack(list(self._inserted.values())), threads=self.config.threads)
        self._inserted.clear()

    def remove(self, node: int) -> None:
        """See `Graph`."""
        self._graph.remove(node)
        self._free.append(node)

    def vector(self, node: int) -> Vector:
        """See `Graph`."""
        return np.asarray(self._graph.get(node), np.float32)

    def kept(self, vector: Vector) -> Vector:
        """See `Graph`."""
        if not self._by_direction:
            return vector
        return (vector / np.linalg.norm(vector)).astype(np.float16).astype(np.float32)

    def search(self, vector: Vector, size: int) -> list[tuple[int, float]]:
        """See `Graph`."""
        kind = self.config.distance_type
        graph = self._graph
        nodes = graph.search(self.kept(vector), size, threads=1, exact=len(graph) <= FEW).keys
        vectors = np.asarray(graph.get(nodes), np.float32)
        scores = [score_of(distance, kind) for distance in distances(vector, vectors, kind).tolist()]
        return sorted(zip(nodes.tolist(), scores, strict=True), key=lambda hit: -hit[1])

    def nearest_each(self, vectors: Sequence[Vector]) -> list[int]:
        """See `Graph`; on several cores."""
        graph, sought = self._graph, np.stack([self.kept(vector) for vector in vectors])
        found = graph.search(sought, 1, threads=self.config.threads, exact=len(graph) <= FEW)
        nodes: list[int] = np.reshape(found.keys, -1).tolist()
        return nodes

    def copy_to(self, folder: Path) -> None:
        """See `Graph`."""
        if self._hnsw is not None:
            folder.mkdir()
            self._hnsw.save(folder / _FILE)

    def close(self) -> None:
        """See `Graph`."""
        self._hnsw = None

    @property
    def _graph(self) -> Hnsw:
        assert self._hnsw is not None
        return self._hnsw

    def _made(self) -> Hnsw:
        metric, dtype = ("cos", "f16") if self._by_direction else ("l2sq", "f32")
        return Hnsw(
            ndim=self.dimension or 0,
            metric=metric,
            dtype=dtype,
            connectivity=EDGES,
            expansion_add=EXPANSION_ADD,
            expansion_search=self.config.expansion,
        )
