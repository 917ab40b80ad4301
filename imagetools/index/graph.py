"""The nearest fingerprints: an NGT graph that grows and shrinks while it runs, with exact duplicates never lost.

NGT loses equal vectors at its defaults (of 401 equal ones, a search for 401 returned 41), and shows an inserted object
only after `build_index`. So images with the same bytes, or with fingerprints within `SAME_NODE` of each other, share
one node of the graph, and changes are collected in a `Change`, which sees its own members by exact comparison and
reaches the graph in one `apply`.
"""

import json
import math
import shutil
import tempfile
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import ngtpy
import numpy as np
import numpy.typing as npt

from imagetools.checksums import copy_sealed, seal
from imagetools.errors import IndexMismatch
from imagetools.index.config import IndexConfig

Vector = npt.NDArray[np.float32]

SAME_NODE = 1e-4
"""Cosine distance within which two fingerprints are one: bfloat16 and the batch size change the last bits."""

MEMBERS_PER_NODE = 5
"""Of a node, a search returns the earliest member and at most four more: 5,000 copies of one image must not make 12.5
million pairs, and grouping by the earliest still joins them all."""

NEIGHBORS_BY_PARTS = 3
"""So many images are found by a picture inside them, or by one inside the image that asks, besides those that are found
whole by whole. One would do in a collection of thousands: what a part shows is nearly always the nearest of all."""

CROWDED = 8
"""So many times as many nodes are looked at, at most, where images that are near by a part crowd out the others."""

FORMAT = 3
"""Of a saved index; one of another format is refused. Before 3 there were no checksums."""


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One image of the index.

    order      where it stands among all changes; the earliest of a node is the one that is always returned
    announced  when it was announced, milliseconds since 1970
    digest     SHA-256 of its bytes, or empty where unknown
    source     which of several sources announced it; -1 where unknown
    """

    order: int
    relative_path: str
    announced: int = 0
    digest: bytes = b""
    source: int = -1


@dataclass(frozen=True, slots=True)
class Neighbor:
    """An index hit.

    score      in [0, 1]: max(0, cosine) for the cosine types and Angle, 1 / (1 + distance) for L1 and L2
    identical  the two have the same bytes
    """

    relative_path: str
    score: float
    identical: bool = False


@dataclass(slots=True)
class _Node:
    """Images that share one vector of the graph; members by order."""

    vector: Vector
    members: list[Entry] = field(default_factory=list)


class Index:
    """Fingerprints by path. Not thread-safe; NGT holds the GIL throughout.

    model  what made the fingerprints; the first one sets it, another is refused
    """

    def __init__(self, config: IndexConfig | None = None, folder: Path | None = None) -> None:
        """An empty index; `folder` is where NGT keeps its files while it runs, a temporary one by default."""
        self.config = config or IndexConfig()
        self.dimension = self.config.dimension
        self.model: str | None = None
        self._home = tempfile.TemporaryDirectory(prefix="index-", dir=folder, ignore_cleanup_errors=True)
        self._graph: Any = None
        self._nodes: dict[int, _Node] = {}
        # each image's nodes: of the whole, then of its parts
        self._entries: dict[str, tuple[tuple[int, ...], Entry]] = {}
        self._digests: dict[bytes, int] = {}
        if self.dimension is not None:
            self._create()

    def __len__(self) -> int:
        """How many images it holds."""
        return len(self._entries)

    def __contains__(self, relative_path: object) -> bool:
        return relative_path in self._entries

    def entry(self, relative_path: str) -> Entry | None:
        """What is known of an image, None where it is not in the index."""
        known = self._entries.get(relative_path)
        return known[1] if known else None

    def entries(self) -> Iterable[Entry]:
        """All images, in no order."""
        return (entry for _, entry in self._entries.values())

    def search(self, fingerprint: Vector, nb_neighbors: int) -> list[Neighbor]:
        """The nearest images, best first; `nb_neighbors` counts distinct fingerprints. Empty index: none."""
        return self.change().search(fingerprint, nb_neighbors)

    def add(
        self,
        relative_path: str,
        fingerprint: Vector,
        *,
        order: int,
        digest: bytes = b"",
        model: str = "",
        parts: Sequence[Vector] = (),
    ) -> None:
        """Add one image, or replace it."""
        change = self.change()
        change.add(Entry(order, relative_path, digest=digest), fingerprint, model=model, parts=parts)
        change.apply()

    def remove(self, relative_path: str) -> None:
        """Forget one image; one that is not there is no error."""
        change = self.change()
        change.remove(relative_path)
        change.apply()

    def change(self) -> "Change":
        """A batch of changes that sees itself at once, and that the index takes over by `apply`."""
        return Change(self)

    def close(self) -> None:
        """Let go of the graph and of its temporary folder."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None
        self._home.cleanup()

    def save(self, folder: Path, info: dict[str, Any] | None = None) -> None:
        """Write everything into a new `folder`, all or nothing; `info` is kept for the caller. FileExistsError."""
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            if self._graph is not None:
                self._graph.save()
                shutil.copytree(self._graph_folder, draft / "graph")
            nodes = [nodes for nodes, _ in self._entries.values()]
            kept = [entry for _, entry in self._entries.values()]
            paths = [entry.relative_path.encode() for entry in kept]
            np.savez(
                draft / "entries.npz",
                nodes=np.array(list(chain.from_iterable(nodes)), np.int64),
                node_ends=np.cumsum([len(one) for one in nodes], dtype=np.int64),
                orders=np.array([entry.order for entry in kept], np.int64),
                announced=np.array([entry.announced for entry in kept], np.int64),
                sources=np.array([entry.source for entry in kept], np.int64),
                digests=np.frombuffer(b"".join(entry.digest.ljust(32, b"\0") for entry in kept), np.uint8),
                digested=np.array([bool(entry.digest) for entry in kept], bool),
                path_ends=np.cumsum([len(path) for path in paths], dtype=np.int64),
                paths=np.frombuffer(b"".join(paths), np.uint8),
            )
            head = {
                "format": FORMAT,
                "dimension": self.dimension,
                "distance_type": self.config.distance_type,
                "model": self.model,
                "info": info or {},
            }
            (draft / "index.json").write_text(json.dumps(head, ensure_ascii=False, indent=1), "utf-8")
            # not flushed to the disk: what a power cut leaves half-written is found out by its checksum
            seal(draft)
            draft.rename(folder)
        except OSError as exc:
            if folder.exists():
                raise FileExistsError(f"{folder}: already there") from exc
            raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    @classmethod
    def load(
        cls, saved: Path, config: IndexConfig | None = None, folder: Path | None = None
    ) -> tuple["Index", dict[str, Any]]:
        """The index saved in `saved`, and its info; `saved` itself stays as it is.

        SnapshotDamaged where it is not what was saved; IndexMismatch where it is of another format, dimension or
        distance type, or cannot be read now. Nothing else is raised, whatever the folder holds.
        """
        index = cls(config, folder)
        try:
            return index, index._read(saved)
        except IndexMismatch:
            index.close()
            raise
        except Exception as exc:
            # of any kind: a format of another NGT, too little memory, a folder that is away
            index.close()
            raise IndexMismatch(f"{saved}: cannot be read: {exc or type(exc).__name__}") from exc

    @property
    def _graph_folder(self) -> Path:
        return Path(self._home.name, "graph")

    def _create(self) -> None:
        ngtpy.create(str(self._graph_folder), self.dimension, distance_type=self.config.distance_type)
        self._open()

    def _open(self) -> None:
        self._graph = ngtpy.Index(str(self._graph_folder), log_disabled=True)

    def _read(self, saved: Path) -> dict[str, Any]:
        if self._graph is not None:
            self._graph.close()
            shutil.rmtree(self._graph_folder)
            self._graph = None
        # NGT can crash on damaged bytes: it only ever opens the copy, which is checked
        home = Path(self._home.name)
        copy_sealed(saved, home)
        head = json.loads((home / "index.json").read_text("utf-8"))
        if head["format"] != FORMAT:
            raise IndexMismatch(f"{saved}: format {head['format']}, this version reads {FORMAT}")
        if head["distance_type"] != self.config.distance_type:
            raise IndexMismatch(f"{saved}: DISTANCE_TYPE {head['distance_type']}, not {self.config.distance_type}")
        if self.config.dimension not in (None, head["dimension"]):
            raise IndexMismatch(f"{saved}: DIMENSION {head['dimension']}, not {self.config.dimension}")
        self.dimension, self.model = head["dimension"], head["model"]
        if self._graph_folder.is_dir():
            self._open()
        with np.load(home / "entries.npz", allow_pickle=False) as table:
            ends, node_ends, nodes = (table[name].tolist() for name in ("path_ends", "node_ends", "nodes"))
            paths, digests = table["paths"].tobytes(), table["digests"].tobytes()
            names = ("orders", "announced", "sources", "digested")
            rows = zip(*(table[name].tolist() for name in names), strict=True)
            for i, (order, announced, source, digested) in enumerate(rows):
                path = paths[ends[i - 1] if i else 0 : ends[i]].decode()
                digest = digests[32 * i : 32 * i + 32] if digested else b""
                own = tuple(nodes[node_ends[i - 1] if i else 0 : node_ends[i]])
                self._attach(own, Entry(order, path, announced, digest, source))
        for name in ("index.json", "entries.npz"):
            (home / name).unlink()
        info: dict[str, Any] = head["info"]
        return info

    def _attach(self, nodes: tuple[int, ...], entry: Entry) -> None:
        for node in nodes:
            if node not in self._nodes:
                vector = np.asarray(self._graph.get_object(node), np.float32)
                self._nodes[node] = _Node(vector)
            insort(self._nodes[node].members, entry)
        self._entries[entry.relative_path] = (nodes, entry)
        if entry.digest:
            self._digests[entry.digest] = nodes[0]

    def _detach(self, relative_path: str) -> tuple[int, ...]:
        nodes, entry = self._entries.pop(relative_path)
        for node in nodes:
            self._nodes[node].members.remove(entry)
        if entry.digest and not any(other.digest == entry.digest for other in self._nodes[nodes[0]].members):
            del self._digests[entry.digest]
        return nodes

    def _nearest(self, vector: Vector, size: int) -> list[tuple[int, float]]:
        """The nearest nodes and their scores, best first."""
        if self._graph is None or not self._nodes or size <= 0:
            return []
        hits = self._graph.search(vector, size=size, epsilon=self.config.epsilon)
        return [(node, self._score(distance)) for node, distance in hits]

    def _score(self, distance: float) -> float:
        match self.config.distance_type:
            case "Cosine" | "Normalized Cosine":
                cosine = 1.0 - distance
            case "Angle":
                cosine = math.cos(distance)
            case _:
                return 1.0 / (1.0 + distance)
        return min(1.0, max(0.0, cosine))

    def _distances(self, vector: Vector, others: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """From one vector to each row, as NGT measures it; exact, for the members of a batch."""
        match self.config.distance_type:
            case "L1":
                return np.asarray(np.abs(others - vector).sum(axis=1, dtype=np.float64))
            case "L2":
                return np.asarray(np.sqrt(np.square(others - vector).sum(axis=1, dtype=np.float64)))
            case kind:
                cosines = _cosines(vector, others)
                return np.arccos(np.clip(cosines, -1.0, 1.0)) if kind == "Angle" else 1.0 - cosines

    def _checked(self, fingerprint: Vector) -> Vector:
        vector = np.ascontiguousarray(fingerprint, dtype=np.float32)
        if vector.ndim != 1 or not vector.size:
            raise IndexMismatch(f"a fingerprint has one axis; this has the shape {vector.shape}")
        if self.dimension is not None and vector.size != self.dimension:
            raise IndexMismatch(f"a fingerprint of {vector.size} dimensions; this index holds {self.dimension}")
        if not np.isfinite(vector).all() or not vector.any():
            raise IndexMismatch("a fingerprint that is not finite, or zero throughout")
        return vector


class Change:
    """Changes to an index that see themselves at once: a search knows all adds and removes made here before it.

    Nothing reaches the index until `apply`; a change that is dropped leaves no trace. One change at a time.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._gone: set[str] = set()
        self._masked: Counter[int] = Counter()
        self._added: dict[str, tuple[tuple[int, ...], Entry]] = {}
        self._digests: dict[bytes, int] = {}
        self._members: dict[int, list[Entry]] = {}
        # nodes that exist only here have negative numbers: -1 is row 0
        self._rows = np.empty((0, index.dimension or 0), np.float32)
        self._count = 0
        self._model = index.model
        # what was just searched for is often added next
        self._recent: dict[bytes, list[tuple[int, float]]] = {}

    def __len__(self) -> int:
        """How many images were added or removed."""
        return len(self._added) + len(self._gone)

    def entry(self, relative_path: str) -> Entry | None:
        """What is known of an image, None where it is not there."""
        if relative_path in self._added:
            return self._added[relative_path][1]
        return None if relative_path in self._gone else self._index.entry(relative_path)

    def search(
        self, fingerprint: Vector, nb_neighbors: int, *, digest: bytes = b"", parts: Sequence[Vector] = ()
    ) -> list[Neighbor]:
        """The nearest images, best first; `nb_neighbors` counts distinct fingerprints.

        Images that are as near by a picture inside them come on top, at most NEIGHBORS_BY_PARTS.
        digest  of the image that asks: neighbors with the same bytes are marked
        parts   fingerprints of the pictures inside it; the nearest NEIGHBORS_BY_PARTS of each come on top, too
        IndexMismatch for a fingerprint of another dimension, or one that is not finite.
        """
        found: dict[str, Neighbor] = {}
        # with equal bytes the fingerprints may still differ in their last bits, and so stand on a node further away
        twin = self._node_of(digest) if digest else None
        first = twin if twin is not None and self._live(twin) else None
        most = min(nb_neighbors, NEIGHBORS_BY_PARTS)
        self._find(found, self._index._checked(fingerprint), nb_neighbors, digest, first=first, by_parts=most)
        for part in parts:
            self._find(found, self._index._checked(part), most, digest, first=None, by_parts=most)
        return sorted(found.values(), key=lambda neighbor: -neighbor.score) if parts else list(found.values())

    def _find(
        self, found: dict[str, Neighbor], vector: Vector, size: int, digest: bytes, *, first: int | None, by_parts: int
    ) -> None:
        """Add the images of the nearest `size` nodes, `first` before all, and of `by_parts` that stand there by a part.

        Nodes that show nothing new do not count: an image with parts stands on several.
        """
        wanted = size + by_parts
        while True:
            hits = self._hits(vector, wanted)
            picked, missing = self._picked(hits if first is None else _put_first(first, hits), digest, size, by_parts)
            # those by parts may crowd out the others
            if not missing or len(hits) < wanted or wanted > CROWDED * (size + by_parts):
                break
            wanted *= 2
        for entry, score in picked:
            known = found.get(entry.relative_path)
            if known is None or known.score < score:
                same = bool(digest) and entry.digest == digest
                found[entry.relative_path] = Neighbor(entry.relative_path, score, same)

    def _picked(
        self, hits: Sequence[tuple[int, float]], digest: bytes, size: int, by_parts: int
    ) -> tuple[list[tuple[Entry, float]], int]:
        """The images of so many nodes, once each, and how many nodes are missing."""
        picked: dict[str, tuple[Entry, float]] = {}
        for node, score in hits:
            if size <= 0:
                break
            shown = [entry for entry in self._shown(node, digest) if entry.relative_path not in picked]
            if not shown:
                continue
            if any(self._stands_on(entry.relative_path) == node for entry in shown):
                size -= 1
            elif by_parts:
                by_parts -= 1
            else:
                continue
            picked.update((entry.relative_path, (entry, score)) for entry in shown)
        return list(picked.values()), size

    def _stands_on(self, relative_path: str) -> int:
        """The node of the whole image."""
        return (self._added.get(relative_path) or self._index._entries[relative_path])[0][0]

    def check(self, fingerprint: Vector, *, model: str = "", parts: Sequence[Vector] = ()) -> list[Vector]:
        """The fingerprint and those of the parts, each float32 (d,); IndexMismatch where `add` would refuse them."""
        vectors = [self._index._checked(one) for one in (fingerprint, *parts)]
        size = vectors[0].size
        if self._count and size != self._rows.shape[1]:
            raise IndexMismatch(f"a fingerprint of {size} dimensions; this index holds {self._rows.shape[1]}")
        if model and self._model not in (None, model):
            raise IndexMismatch(f"a fingerprint of the model {model}; this index holds those of {self._model}")
        for part in vectors[1:]:
            if part.size != size:
                raise IndexMismatch(f"a fingerprint of {size} dimensions with a part of {part.size}")
        return vectors

    def add(self, entry: Entry, fingerprint: Vector, *, model: str = "", parts: Sequence[Vector] = ()) -> None:
        """Add an image, or replace it; it is found by the fingerprints of the pictures inside it, too.

        IndexMismatch for a fingerprint of another model or dimension, or one that is not finite.
        """
        vector, *inside = self.check(fingerprint, model=model, parts=parts)
        self._model = self._model or model or None
        self.remove(entry.relative_path)
        node = self._node_of(entry.digest) if entry.digest else None
        if node is None:
            node = self._node_for(vector)
        nodes = [node]
        insort(self._members.setdefault(node, []), entry)
        for part in inside:
            # two equal parts are on one node, which the first has made
            if (other := self._node_for(part)) not in nodes:
                nodes.append(other)
                insort(self._members.setdefault(other, []), entry)
        self._added[entry.relative_path] = (tuple(nodes), entry)
        if entry.digest:
            self._digests[entry.digest] = node

    def remove(self, relative_path: str) -> None:
        """Forget an image; one that is not there is no error."""
        if relative_path in self._added:
            self._recent.clear()
            nodes, entry = self._added.pop(relative_path)
            for node in nodes:
                self._members[node].remove(entry)
            if entry.digest and not any(other.digest == entry.digest for other in self._members[nodes[0]]):
                self._digests.pop(entry.digest, None)
        elif relative_path not in self._gone and (known := self._index._entries.get(relative_path)):
            self._recent.clear()
            self._gone.add(relative_path)
            self._masked.update(known[0])

    def apply(self) -> None:
        """Make the index what this change has seen; the change is done with then."""
        index = self._index
        emptied = {node for path in self._gone for node in index._detach(path)}
        index.model = self._model
        numbers: dict[int, int] = {}
        for node in sorted((n for n in self._members if n < 0 and self._members[n]), reverse=True):
            vector = self._rows[-node - 1].copy()
            if index._graph is None:
                index.dimension = vector.size
                index._create()
            numbers[node] = int(index._graph.insert(vector))
            index._nodes[numbers[node]] = _Node(vector)
        for nodes, entry in self._added.values():
            index._attach(tuple(numbers.get(node, node) for node in nodes), entry)
        if numbers:
            index._graph.build_index(index.config.threads)
        for node in emptied:
            if not index._nodes[node].members:
                del index._nodes[node]
                index._graph.remove(node)

    def _node_of(self, digest: bytes) -> int | None:
        node = self._digests.get(digest)
        return self._index._digests.get(digest) if node is None else node

    def _hits(self, vector: Vector, size: int) -> list[tuple[int, float]]:
        """The nearest living nodes, of the index and of this change, best first."""
        hidden = sum(1 for node in self._masked if not self._live(node))
        hits = [hit for hit in self._index._nearest(vector, max(size, 1) + hidden) if self._live(hit[0])]
        if self._count and vector.size == self._rows.shape[1]:
            distances = self._index._distances(vector, self._rows[: self._count])
            nearest = np.argsort(distances, kind="stable")
            own = [(-int(row) - 1, self._index._score(float(distances[row]))) for row in nearest]
            hits = sorted(hits + [hit for hit in own if self._live(hit[0])][:size], key=lambda hit: -hit[1])
        self._recent[vector.tobytes()] = hits
        return hits[:size]

    def _node_for(self, vector: Vector) -> int:
        node = self._same_node(vector)
        return self._new_node(vector) if node is None else node

    def _same_node(self, vector: Vector) -> int | None:
        """The node that this fingerprint may share, if any."""
        hits = self._recent.get(vector.tobytes()) or self._hits(vector, 1)
        for node, _ in hits[:1]:
            known = self._rows[-node - 1] if node < 0 else self._index._nodes[node].vector
            if 1.0 - float(_cosines(vector, known[None])[0]) <= SAME_NODE:
                return node
        return None

    def _new_node(self, vector: Vector) -> int:
        if self._count == len(self._rows):
            rows = np.empty((max(64, 2 * self._count), vector.size), np.float32)
            if self._count:
                rows[: self._count] = self._rows[: self._count]
            self._rows = rows
        self._rows[self._count] = vector
        self._count += 1
        self._recent.clear()
        return -self._count

    def _live(self, node: int) -> bool:
        kept = len(self._index._nodes[node].members) - self._masked[node] if node >= 0 else 0
        return kept > 0 or bool(self._members.get(node))

    def _shown(self, node: int, digest: bytes) -> Sequence[Entry]:
        """The members of a node that a search returns: the earliest, one with equal bytes if any, then by order.

        Those that stand there as a whole go before those that do by a part.
        """
        base = self._index._nodes[node].members if node >= 0 else []
        wholes: list[Entry] = []
        by_parts: list[Entry] = []
        twin: Entry | None = None
        sought = bool(digest) and self._node_of(digest) == node
        for entry in chain((e for e in base if e.relative_path not in self._gone), self._members.get(node, ())):
            if sought and twin is None and entry.digest == digest:
                twin = entry
            kind = wholes if self._stands_on(entry.relative_path) == node else by_parts
            if len(kind) < MEMBERS_PER_NODE:
                kind.append(entry)
            elif len(wholes) == MEMBERS_PER_NODE and (twin or not sought):
                break
        shown = (wholes + by_parts)[:MEMBERS_PER_NODE]
        if twin is not None and twin not in shown:
            shown[-1] = twin
        return shown


def _put_first(node: int, hits: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    return [(node, 1.0), *(hit for hit in hits if hit[0] != node)]


def _cosines(vector: Vector, others: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cosine of one vector with each row, in double precision."""
    wide = others.astype(np.float64)
    products = wide @ vector.astype(np.float64)
    lengths = np.sqrt(np.square(wide).sum(axis=1)) * math.sqrt(float(np.square(vector, dtype=np.float64).sum()))
    return np.asarray(products / lengths)
