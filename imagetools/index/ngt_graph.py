"""A graph by NGT.

NGT shows an inserted vector only after `build`, and loses equal vectors at its defaults: of 401 equal ones, a search
for 401 returns 41. So the rest of this package gives each distinct fingerprint one node.
"""

import shutil
from pathlib import Path
from typing import Any, Final

import ngtpy
import numpy as np

from imagetools.index.config import IndexConfig
from imagetools.index.distance import Vector, score_of
from imagetools.index.graph import Graph

_AS_NGT: Final = {"Cosine": "Normalized Cosine"}
"""The same distances, but a vector's length is computed once: searches take two thirds of the time."""


EDGES: Final = 10
"""Of a new node. Those that lead to it from later ones come on top, and a search follows all of them: with NGT's own 40
at most it found a tenth less, at the same speed."""


class NgtGraph(Graph):
    """An NGT graph in a folder of its own; it holds the GIL throughout."""

    def __init__(self, folder: Path, config: IndexConfig, dimension: int | None = None) -> None:
        """See `open_graph`."""
        super().__init__(config, dimension)
        self._folder = folder
        self._ngt: Any = None
        if folder.is_dir():
            self._open()

    def insert(self, vector: Vector) -> int:
        """See `Graph`."""
        if self._ngt is None:
            self.dimension = vector.size
            kind = _AS_NGT.get(self.config.distance_type, self.config.distance_type)
            ngtpy.create(str(self._folder), self.dimension, EDGES, 0, distance_type=kind)
            self._open()
        return int(self._ngt.insert(vector))

    def build(self) -> None:
        """See `Graph`."""
        self._ngt.build_index(self.config.threads)

    def remove(self, node: int) -> None:
        """See `Graph`."""
        self._ngt.remove(node)

    def vector(self, node: int) -> Vector:
        """See `Graph`."""
        return np.asarray(self._ngt.get_object(node), np.float32)

    def search(self, vector: Vector, size: int) -> list[tuple[int, float]]:
        """See `Graph`."""
        hits = self._ngt.search(vector, size=size, epsilon=self.config.epsilon)
        return [(node, score_of(distance, self.config.distance_type)) for node, distance in hits]

    def copy_to(self, folder: Path) -> None:
        """See `Graph`."""
        if self._ngt is not None:
            self._ngt.save()
            shutil.copytree(self._folder, folder)

    def close(self) -> None:
        """See `Graph`."""
        if self._ngt is not None:
            self._ngt.close()
            self._ngt = None

    def _open(self) -> None:
        self._ngt = ngtpy.Index(str(self._folder), log_disabled=True)
