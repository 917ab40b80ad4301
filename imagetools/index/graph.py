"""NGT alone: numbered vectors, and the nearest of them.

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

_AS_NGT: Final = {"Cosine": "Normalized Cosine"}
"""The same distances, but a vector's length is computed once: searches take two thirds of the time."""


class Graph:
    """An NGT graph in a folder of its own. Not thread-safe; NGT holds the GIL throughout.

    dimension  of its vectors; None until the first one where the settings give none
    """

    def __init__(self, folder: Path, config: IndexConfig, dimension: int | None = None) -> None:
        """Open the graph in `folder`; where there is none, the first vector makes it."""
        self.config = config
        self.dimension = dimension or config.dimension
        self._folder = folder
        self._ngt: Any = None
        if folder.is_dir():
            self._open()

    def insert(self, vector: Vector) -> int:
        """Add a vector and return its node; searches find it after `build`."""
        if self._ngt is None:
            self.dimension = vector.size
            kind = _AS_NGT.get(self.config.distance_type, self.config.distance_type)
            ngtpy.create(str(self._folder), self.dimension, distance_type=kind)
            self._open()
        return int(self._ngt.insert(vector))

    def build(self) -> None:
        """Link the inserted vectors into the graph."""
        self._ngt.build_index(self.config.threads)

    def remove(self, node: int) -> None:
        """Delete a node."""
        self._ngt.remove(node)

    def vector(self, node: int) -> Vector:
        """Return the vector of a node, as NGT keeps it."""
        return np.asarray(self._ngt.get_object(node), np.float32)

    def search(self, vector: Vector, size: int) -> list[tuple[int, float]]:
        """Find the nearest `size` nodes and their scores, best first; there has to be one."""
        hits = self._ngt.search(vector, size=size, epsilon=self.config.epsilon)
        return [(node, score_of(distance, self.config.distance_type)) for node, distance in hits]

    def copy_to(self, folder: Path) -> None:
        """Write the graph's files into a new folder; an empty graph has none."""
        if self._ngt is not None:
            self._ngt.save()
            shutil.copytree(self._folder, folder)

    def close(self) -> None:
        """Close the graph's files."""
        if self._ngt is not None:
            self._ngt.close()
            self._ngt = None

    def _open(self) -> None:
        self._ngt = ngtpy.Index(str(self._folder), log_disabled=True)
