"""Numbered vectors, and the nearest of them: what the index asks of a library for nearest neighbors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from imagetools.index.config import IndexConfig
from imagetools.index.distance import Vector


class Graph(ABC):
    """Vectors by node, a small number; nodes that were removed are used again. Not thread-safe.

    dimension  of its vectors; None until the first one where the settings give none
    """

    def __init__(self, config: IndexConfig, dimension: int | None) -> None:
        self.config = config
        self.dimension = dimension or config.dimension

    @abstractmethod
    def insert(self, vector: Vector) -> int:
        """Add a vector and return its node; searches find it after `build`."""

    @abstractmethod
    def build(self) -> None:
        """Link the inserted vectors into the graph."""

    @abstractmethod
    def remove(self, node: int) -> None:
        """Delete a node."""

    @abstractmethod
    def vector(self, node: int) -> Vector:
        """Return the vector of a node, as the graph keeps it."""

    def kept(self, vector: Vector) -> Vector:
        """Return a vector as the graph would keep it: perhaps of length 1, and rounded."""
        return vector

    @abstractmethod
    def search(self, vector: Vector, size: int) -> list[tuple[int, float]]:
        """Find the nearest `size` nodes and their scores, best first; there has to be one."""

    def nearest_each(self, vectors: Sequence[Vector]) -> list[int]:
        """Return the nearest node of each of several vectors; there has to be a node."""
        return [self.search(vector, 1)[0][0] for vector in vectors]

    @abstractmethod
    def copy_to(self, folder: Path) -> None:
        """Write the graph's files into a new folder; an empty graph has none."""

    @abstractmethod
    def close(self) -> None:
        """Free its memory and files."""
