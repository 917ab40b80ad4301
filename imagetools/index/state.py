"""Which images stand where in the graph."""

from array import array
from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagetools.index.entry import Entry
from imagetools.index.growing import grown
from imagetools.index.image_table import ImageTable, Rows, digest_hash, digest_hashes
from imagetools.index.local_index import LocalIndex
from imagetools.index.node_numbers import NodeNumbers
from imagetools.index.row_table import RowTable


@dataclass(frozen=True, slots=True)
class Placement:
    """An image and its nodes: that of the whole first, then those of its parts."""

    entry: Entry
    nodes: tuple[int, ...]


class StoredImages(NamedTuple):
    """All images of an index, as they are kept on disk.

    rows    `image_table.ROW` (n,), the images
    paths   uint8, their paths, one after the other
    parted  int64 (p,), of each image with parts its place in `rows`, once for each part
    parts   int64 (p,), the node of that part
    """

    rows: Rows
    paths: NDArray[np.uint8]
    parted: NDArray[np.int64]
    parts: NDArray[np.int64]


class IndexState:
    """The images of the index: by path, by node and by digest; and the local codes of the nodes.

    Images that stand on one node as a whole look the same, so the node has the local codes of one of them, under a
    number of its own. What nearly every image has is in arrays; dictionaries hold what few have.

    model    what made the fingerprints; None until the first one that names it
    local    the local codes, by number
    numbers  the numbers, by node
    """

    def __init__(self) -> None:
        """Make the state of an empty index."""
        self.model: str | None = None
        self.local = LocalIndex()
        self.numbers = NodeNumbers()
        self._images = ImageTable()
        # one image of each digest
        self._by_digest = RowTable()
        # by row, the nodes of the parts of an image
        self._parts: dict[int, tuple[int, ...]] = {}
        # by node, one more than the row of its only image; 0: it has none or several
        self._only = np.zeros(0, np.uint32)
        # by node, the rows of several images, earliest first
        self._several: dict[int, array[int]] = {}
        self._nb_nodes = 0

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    @property
    def nb_nodes(self) -> int:
        """How many distinct fingerprints the images have."""
        return self._nb_nodes

    @property
    def nb_shared_nodes(self) -> int:
        """How many of these several images have."""
        return len(self._several)

    def entries(self) -> Iterator[Entry]:
        """Yield all images, in no order."""
        return map(self._images.entry, self._images)

    def placement(self, relative_path: str) -> Placement | None:
        """Return where an image stands, None where it is not in the index."""
        row = self._images.find(relative_path)
        return None if row is None else Placement(self._images.entry(row), self._nodes(row))

    def whole(self, relative_path: str) -> int | None:
        """Return the node where an image stands as a whole, None where it is not in the index."""
        row = self._images.find(relative_path)
        return None if row is None else self._images.node(row)

    def members(self, node: int) -> Iterator[Entry]:
        """Yield the images of a node, earliest first."""
        return map(self._images.entry, self._rows_of(node))

    def count(self, node: int) -> int:
        """Return how many images stand on a node."""
        return len(self._rows_of(node))

    def node_of(self, digest: bytes) -> int | None:
        """Return the node where images with these bytes stand as a whole, None where there is none."""
        row = self._row_of(digest)
        return None if row is None else self._images.node(row)

    def attach(self, placement: Placement) -> None:
        """Add an image; its path must be free."""
        entry, (whole, *parts) = placement.entry, placement.nodes
        row = self._images.add(entry, whole)
        if parts:
            self._parts[row] = tuple(parts)
        for node in placement.nodes:
            self._stand(row, node)
        # all images with these bytes stand there
        if entry.digest and self._row_of(entry.digest) is None:
            self._by_digest.add(digest_hash(entry.digest), row)

    def detach(self, relative_path: str) -> Sequence[int]:
        """Take an image out and return its nodes; KeyError where it is not in the index."""
        row = self._images.find(relative_path)
        if row is None:
            raise KeyError(relative_path)
        nodes, digest = self._nodes(row), self._images.entry(row).digest
        for node in nodes:
            self._leave(row, node)
        if digest and self._row_of(digest) == row:
            self._by_digest.remove(digest_hash(digest), row)
            twins = (other for other in self._rows_of(nodes[0]) if self._images.has_digest(other, digest))
            if (twin := next(twins, None)) is not None:
                self._by_digest.add(digest_hash(digest), twin)
        self._parts.pop(row, None)
        self._images.remove(row)
        return nodes

    def stored(self) -> StoredImages:
        """Return all images, for `restored`."""
        rows, paths, was = self._images.stored()
        now = dict(zip(was.tolist(), range(len(was)), strict=True)) if self._parts else {}
        pairs = [(now[row], node) for row, nodes in self._parts.items() for node in nodes]
        parted, parts = np.array(pairs, np.int64).reshape(-1, 2).T
        return StoredImages(rows, np.frombuffer(paths, np.uint8), parted, parts)

    @classmethod
    def restored(cls, images: StoredImages, local: LocalIndex, numbers: NodeNumbers) -> "IndexState":
        """Make the state of what `stored` returned, and the local codes."""
        state = cls()
        state.local, state.numbers = local, numbers
        state._images = ImageTable.restored(images.rows, bytearray(images.paths))
        for row, node in zip(images.parted.tolist(), images.parts.tolist(), strict=True):
            state._parts[row] = (*state._parts.get(row, ()), node)
        state._place_all(images)
        digested = np.flatnonzero(images.rows["digested"])
        _, first = np.unique(images.rows["digest"][digested], return_index=True)
        chosen = digested[first]
        state._by_digest = RowTable.of(digest_hashes(images.rows[chosen]), chosen)
        return state

    def _place_all(self, images: StoredImages) -> None:
        """Put all images on their nodes."""
        rows = np.concatenate([np.arange(len(images.rows)), images.parted])
        nodes = np.concatenate([images.rows["node"].astype(np.int64), images.parts])
        counts = np.bincount(nodes)
        self._nb_nodes = int(np.count_nonzero(counts))
        self._only = np.zeros(len(counts), np.uint32)
        alone = counts[nodes] == 1
        self._only[nodes[alone]] = rows[alone] + 1
        rows, nodes = rows[~alone], nodes[~alone]
        rows = rows[np.argsort(nodes, kind="stable")]
        shared, sizes = np.unique(nodes, return_counts=True)
        for node, end, size in zip(shared.tolist(), np.cumsum(sizes).tolist(), sizes.tolist(), strict=True):
            self._several[node] = array("I", sorted(rows[end - size : end].tolist(), key=self._images.order))

    def _row_of(self, digest: bytes) -> int | None:
        rows = self._by_digest.rows(digest_hash(digest))
        return next((row for row in rows if self._images.has_digest(row, digest)), None)

    def _nodes(self, row: int) -> tuple[int, ...]:
        return (self._images.node(row), *self._parts.get(row, ()))

    def _rows_of(self, node: int) -> Sequence[int]:
        if node < 0 or node >= len(self._only):
            return ()
        only = int(self._only[node])
        return (only - 1,) if only else self._several.get(node, ())

    def _stand(self, row: int, node: int) -> None:
        """Put an image on a node, in its order."""
        others = self._rows_of(node)
        if not others:
            self._only = grown(self._only, node + 1)
            self._only[node] = row + 1
            self._nb_nodes += 1
            return
        if len(others) == 1:
            self._several[node] = array("I", others)
            self._only[node] = 0
        insort(self._several[node], row, key=self._images.order)

    def _leave(self, row: int, node: int) -> None:
        """Take an image off a node; a node that is empty then is forgotten."""
        several = self._several.get(node)
        if several is None:
            self._only[node] = 0
            self._nb_nodes -= 1
            return
        several.remove(row)
        if len(several) == 1:
            self._only[node] = several[0] + 1
            del self._several[node]
