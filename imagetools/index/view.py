"""The index as one batch of changes leaves it, before any of them reaches the graph."""

import math
from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Final

import numpy as np
import numpy.typing as npt

from imagetools.errors import IndexMismatch
from imagetools.index.config import SAME_NODE
from imagetools.index.distance import Vector, cosines, distances, score_of
from imagetools.index.entry import Entry
from imagetools.index.graph import Graph
from imagetools.index.local_index import LocalChange
from imagetools.index.state import IndexState, Placement
from imagetools.local_codes import LocalCodes

_HEAD: Final = 8
_EQUAL_WITHIN: Final = 1.01 * math.sqrt(2 * SAME_NODE)
"""Vectors of length 1 with a cosine of 1 - d are √(2 d) apart, so no number of theirs differs by more."""


class View:
    """The index with a batch laid over it. Nodes that exist only here have negative numbers: -1 is row 0.

    Images with the same bytes share one node, and so do fingerprints within SAME_NODE of each other.
    model  what made the fingerprints; None until the first one that names it
    """

    def __init__(self, state: IndexState, graph: Graph) -> None:
        self.model = state.model
        self._state = state
        self._graph = graph
        self._gone: set[str] = set()
        # how many images of a node of the graph are gone
        self._gone_from: Counter[int] = Counter()
        self._added: dict[str, Placement] = {}
        self._members: dict[int, list[Entry]] = {}
        self._digests: dict[bytes, int] = {}
        self._rows = _Rows()
        self._local = LocalChange(state.local)
        # numbers of local codes that this batch gave to nodes, None where it took them away
        self._numbers: dict[int, int | None] = {}
        self._numbered: dict[int, int] = {}
        # an image is often added right after a search for it
        self._recent: dict[bytes, list[tuple[int, float]]] = {}
        # the nearest node of the graph, where it was looked for ahead
        self._ahead: dict[bytes, int] = {}

    def __len__(self) -> int:
        """Return how many images were added or removed."""
        return len(self._added) + len(self._gone)

    @property
    def dimension(self) -> int | None:
        """Of a fingerprint; None until the first one where the settings give none."""
        return self._graph.dimension or self._rows.dimension

    def placement(self, relative_path: str) -> Placement | None:
        """Return where an image stands, None where it is not in the index."""
        if relative_path in self._added:
            return self._added[relative_path]
        return None if relative_path in self._gone else self._state.placement(relative_path)

    def node_of(self, digest: bytes) -> int | None:
        """Return the node where images with these bytes stand as a whole; it may have lost them."""
        node = self._digests.get(digest)
        return self._state.node_of(digest) if node is None else node

    def members(self, node: int) -> Iterator[Entry]:
        """Yield the images of a node: those of the graph, then those added here, each by order."""
        old = (entry for entry in self._state.members(node) if entry.relative_path not in self._gone)
        return chain(old, self._members.get(node, ()))

    def stands_whole(self, entry: Entry, node: int) -> bool:
        """Tell whether an image stands on a node by its whole, rather than by a part."""
        added = self._added.get(entry.relative_path)
        return (self._state.whole(entry.relative_path) if added is None else added.nodes[0]) == node

    def is_live(self, node: int) -> bool:
        """Tell whether any image stands on a node."""
        return bool(self._members.get(node)) or self._state.count(node) > self._gone_from[node]

    def nearest(self, vector: Vector, size: int) -> list[tuple[int, float]]:
        """Find the nearest live nodes, of the graph and of this batch, and their scores, best first."""
        hits = self._nearest_in_graph(vector, max(size, 1))
        if len(self._rows):
            hits = sorted(hits + self._nearest_rows(vector, max(size, 1)), key=lambda hit: -hit[1])
        self._recent[vector.tobytes()] = hits
        return hits[:size]

    def look_ahead(self, fingerprints: Sequence[Vector]) -> None:
        """See `Change`."""
        vectors = [np.ascontiguousarray(fingerprint, dtype=np.float32) for fingerprint in fingerprints]
        vectors = [v for v in vectors if v.shape == (self.dimension,) and np.isfinite(v).all() and v.any()]
        if vectors and self._state.nb_nodes:
            nodes = self._graph.nearest_each(vectors)
            self._ahead.update((vector.tobytes(), node) for vector, node in zip(vectors, nodes, strict=True))

    def with_detail_of(self, codes: LocalCodes, size: int) -> list[tuple[int, float]]:
        """Find the nodes that share local codes, of the graph and of this batch, and their votes, best first."""
        return [(self._node_numbered(hit.number), hit.votes) for hit in self._local.search(codes, size)]

    def check(self, fingerprint: Vector) -> Vector:
        """Return a fingerprint as float32 (d,); IndexMismatch where it does not belong in this index."""
        vector = np.ascontiguousarray(fingerprint, dtype=np.float32)
        if vector.ndim != 1 or not vector.size:
            raise IndexMismatch(f"a fingerprint has one axis; this has the shape {vector.shape}")
        if self.dimension not in (None, vector.size):
            raise IndexMismatch(f"a fingerprint of {vector.size} dimensions; this index holds {self.dimension}")
        if not np.isfinite(vector).all() or not vector.any():
            raise IndexMismatch("a fingerprint that is not finite, or zero throughout")
        return vector

    def add(self, entry: Entry, whole: Vector, parts: Sequence[Vector], codes: LocalCodes | None = None) -> None:
        """Place an image that is not in the index; the vectors are checked."""
        node = self.node_of(entry.digest) if entry.digest else None
        if node is None:
            node = self._node_for(whole)
        nodes = [node]
        insort(self._members.setdefault(node, []), entry)
        for part in parts:
            # equal parts share a node
            if (other := self._node_for(part)) not in nodes:
                nodes.append(other)
                insort(self._members.setdefault(other, []), entry)
        self._added[entry.relative_path] = Placement(entry, tuple(nodes))
        if entry.digest:
            self._digests[entry.digest] = node
        if codes is not None and len(codes) and self._number_of(node) is None:
            number = self._local.add(codes)
            self._numbers[node], self._numbered[number] = number, node

    def remove(self, relative_path: str) -> None:
        """Take an image out; one that is not there is no error."""
        placement = self.placement(relative_path)
        if placement is None:
            return
        self._recent.clear()
        if self._added.pop(relative_path, None) is None:
            self._gone.add(relative_path)
            self._gone_from.update(placement.nodes)
        else:
            entry, nodes = placement.entry, placement.nodes
            for node in nodes:
                self._members[node].remove(entry)
            if entry.digest and not any(other.digest == entry.digest for other in self._members[nodes[0]]):
                self._digests.pop(entry.digest, None)
        self._forget_codes(placement.nodes[0])

    def apply(self) -> None:
        """Change the state and the graph to what this view shows; the view must not be used afterwards."""
        state, graph = self._state, self._graph
        left = {node for path in self._gone for node in state.detach(path)}
        state.model = self.model
        new = sorted((node for node, members in self._members.items() if node < 0 and members), reverse=True)
        inserted = {node: graph.insert(self._rows.vector(node)) for node in new}
        for placement in self._added.values():
            state.attach(Placement(placement.entry, tuple(inserted.get(node, node) for node in placement.nodes)))
        if inserted:
            graph.build()
        self._local.apply()
        self._give_numbers(inserted)
        for node in left:
            if not state.count(node):
                graph.remove(node)

    def _give_numbers(self, nodes: Mapping[int, int]) -> None:
        """Give the nodes the numbers that their local codes have now; `nodes` has those that are new to the graph."""
        given = []
        for node, number in self._numbers.items():
            if number is not None:
                given.append((number, nodes.get(node, node)))
            elif node >= 0:
                self._state.numbers.take(node)
        for number, node in sorted(given):
            self._state.numbers.give(node, number)

    def _number_of(self, node: int) -> int | None:
        return self._numbers[node] if node in self._numbers else self._state.numbers.number_of(node)

    def _node_numbered(self, number: int) -> int:
        node = self._numbered[number] if number in self._numbered else self._state.numbers.node_of(number)
        assert node is not None
        return node

    def _forget_codes(self, node: int) -> None:
        """Forget a node's local codes where no image stands on it as a whole any more."""
        number = self._number_of(node)
        if number is not None and not any(self.stands_whole(entry, node) for entry in self.members(node)):
            self._local.remove(number)
            self._numbers[node] = None

    def _nearest_in_graph(self, vector: Vector, size: int) -> list[tuple[int, float]]:
        """The nearest live nodes of the graph, `size` or more, and their scores, best first."""
        if not self._state.nb_nodes:
            return []
        # the graph also returns nodes that are empty by now
        empty = sum(1 for node in self._gone_from if not self.is_live(node))
        return [hit for hit in self._graph.search(vector, size + empty) if self.is_live(hit[0])]

    def _nearest_rows(self, vector: Vector, size: int) -> list[tuple[int, float]]:
        """The nearest live nodes of this batch and their scores, best first."""
        kind = self._graph.config.distance_type
        rows = self._rows.nearest(vector, kind)
        live = list(islice((row for row in rows if self.is_live(-row - 1)), size))
        apart = distances(vector, self._rows.filled[live], kind)
        return sorted(
            ((-row - 1, score_of(float(far), kind)) for row, far in zip(live, apart, strict=True)),
            key=lambda hit: -hit[1],
        )

    def _node_for(self, vector: Vector) -> int:
        """The node of an equal fingerprint, or else a new one."""
        recent = self._recent.get(vector.tobytes())
        nearest = [node for node, _ in recent[:1]] if recent else self._perhaps_equal(vector)
        for node in nearest:
            known = self._rows.vector(node) if node < 0 else self._graph.vector(node)
            if 1.0 - float(cosines(vector, known[None])[0]) <= SAME_NODE:
                return node
        self._recent.clear()
        return self._rows.append(self._graph.kept(vector))

    def _perhaps_equal(self, vector: Vector) -> list[int]:
        """The live nodes that may have an equal fingerprint: much quicker than all of this batch in their order."""
        rows = [node for node in self._rows.perhaps_equal(vector) if self.is_live(node)]
        ahead = self._ahead.get(vector.tobytes())
        if ahead is not None and self.is_live(ahead):
            return [*rows, ahead]
        return rows + [node for node, _ in self._nearest_in_graph(vector, 1)[:1]]


class _Rows:
    """The vectors of nodes that are not in the graph yet, in arrays that grow by doubling."""

    def __init__(self) -> None:
        self._rows: npt.NDArray[np.float32] | None = None
        # of each, its length, and the first numbers of the vector of length 1 in the same direction
        self._lengths = np.empty(0, np.float32)
        self._heads = np.empty((0, _HEAD), np.float32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def dimension(self) -> int | None:
        return None if self._rows is None else self._rows.shape[1]

    @property
    def filled(self) -> npt.NDArray[np.float32]:
        """float32 (n, d); there has to be a row."""
        assert self._rows is not None
        return self._rows[: self._count]

    def vector(self, node: int) -> Vector:
        row: Vector = self.filled[-node - 1]
        return row

    def nearest(self, vector: Vector, distance_type: str) -> Iterator[int]:
        """Yield all rows, nearest first, as single precision tells them apart."""
        if distance_type in ("L1", "L2"):
            order = np.argsort(distances(vector, self.filled, distance_type), kind="stable")
        else:
            order = np.argsort(-(self.filled @ vector) / self._lengths[: self._count], kind="stable")
        return iter(order.tolist())

    def perhaps_equal(self, vector: Vector) -> list[int]:
        """Return the nodes whose first numbers do not differ from the vector's by more than equal ones may."""
        head = vector[:_HEAD] / np.linalg.norm(vector)
        apart = np.abs(self._heads[: self._count, : vector.size] - head).max(axis=1, initial=0)
        return [-row - 1 for row in np.flatnonzero(apart <= _EQUAL_WITHIN).tolist()]

    def append(self, vector: Vector) -> int:
        """Add a vector and return its node."""
        if self._rows is None or self._count == len(self._rows):
            size = max(64, 2 * self._count)
            self._rows = _longer(np.empty((0, vector.size), np.float32) if self._rows is None else self._rows, size)
            self._lengths, self._heads = _longer(self._lengths, size), _longer(self._heads, size)
        self._rows[self._count] = vector
        self._lengths[self._count] = length = np.linalg.norm(vector)
        self._heads[self._count, : vector.size] = vector[:_HEAD] / length
        self._count += 1
        return -self._count


def _longer(array: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    longer = np.zeros((size, *array.shape[1:]), np.float32)
    longer[: len(array)] = array
    return longer
