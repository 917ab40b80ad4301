"""The nearest fingerprints: an index that grows and shrinks while it runs, and never loses an exact duplicate.

Images with equal fingerprints share one node of a graph (`graph`, `state`). Images that share detail are found by
their local codes (`local_index`), whatever else they show. Changes are collected in a `Change`,
which searches its own images by exact comparison, and reach the graph in one `apply`.
"""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from imagetools.errors import IndexMismatch
from imagetools.index import snapshot
from imagetools.index.change import Change
from imagetools.index.config import IndexConfig
from imagetools.index.distance import Vector
from imagetools.index.engines import open_graph
from imagetools.index.entry import Entry
from imagetools.index.local_index import LocalIndex
from imagetools.index.saving import Saving
from imagetools.index.search import Hit
from imagetools.index.state import IndexState
from imagetools.local_codes import LocalCodes


class Index:
    """Fingerprints by path. Not thread-safe."""

    def __init__(self, config: IndexConfig | None = None, folder: Path | None = None) -> None:
        """Make an empty index; NGT keeps its files in `folder` while it runs, by default in a temporary one."""
        self.config = config or IndexConfig()
        self._home = tempfile.TemporaryDirectory(prefix="index-", dir=folder, ignore_cleanup_errors=True)
        self._graph = open_graph(Path(self._home.name, snapshot.GRAPH), self.config)
        self._state = IndexState()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._state)

    def __contains__(self, relative_path: object) -> bool:
        return isinstance(relative_path, str) and self._state.whole(relative_path) is not None

    @property
    def dimension(self) -> int | None:
        """Of a fingerprint; None until the first one where the settings give none."""
        return self._graph.dimension

    @property
    def model(self) -> str | None:
        """What made the fingerprints; the first one sets it, and others are refused."""
        return self._state.model

    @property
    def nb_nodes(self) -> int:
        """How many distinct fingerprints the images have."""
        return self._state.nb_nodes

    @property
    def nb_shared_nodes(self) -> int:
        """How many of these several images have."""
        return self._state.nb_shared_nodes

    @property
    def local(self) -> LocalIndex:
        """The local codes, for those who count them; change them by `change` alone."""
        return self._state.local

    def entry(self, relative_path: str) -> Entry | None:
        """Return what is known of an image, None where it is not in the index."""
        placement = self._state.placement(relative_path)
        return None if placement is None else placement.entry

    def entries(self) -> Iterable[Entry]:
        """Return all images, in no order."""
        return self._state.entries()

    def search(self, fingerprint: Vector, nb_neighbors: int) -> list[Hit]:
        """Find the nearest images, best first; `nb_neighbors` counts distinct fingerprints."""
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
        codes: LocalCodes | None = None,
    ) -> None:
        """Add one image, or replace it. IndexMismatch as of `Change.add`."""
        change = self.change()
        change.add(Entry(order, relative_path, digest=digest), fingerprint, model=model, parts=parts, codes=codes)
        change.apply()

    def remove(self, relative_path: str) -> None:
        """Forget one image; one that is not there is no error."""
        change = self.change()
        change.remove(relative_path)
        change.apply()

    def change(self) -> Change:
        """Begin a batch of changes that sees itself at once, and reaches this index by `Change.apply`."""
        return Change(self._state, self._graph)

    def close(self) -> None:
        """Close the graph and remove its temporary folder."""
        self._graph.close()
        self._home.cleanup()

    def save(self, folder: Path, info: dict[str, Any] | None = None) -> None:
        """Write everything into a new `folder`, all or nothing; `info` is the caller's. FileExistsError."""
        snapshot.write(folder, self._graph, self._state, info or {})

    def begin_save(self, folder: Path, info: dict[str, Any] | None = None) -> Saving:
        """Do as `save`, in a copy of this process, while this one goes on; changes from now on are not in it."""
        return Saving(lambda: self.save(folder, info))

    @classmethod
    def load(
        cls, saved: Path, config: IndexConfig | None = None, folder: Path | None = None
    ) -> tuple["Index", dict[str, Any]]:
        """Load the index saved in `saved`, and its info; `saved` stays as it is.

        SnapshotDamaged where it is not what was saved; IndexMismatch where it is of another format, dimension or
        distance type, or cannot be read now. Nothing else is raised, whatever the folder holds.
        """
        index = cls(config, folder)
        try:
            index._graph, index._state, info = snapshot.read(saved, Path(index._home.name), index.config)
        except IndexMismatch:
            index.close()
            raise
        except Exception as exc:
            # of any kind: a format of another version of the engine, too little memory, a folder that is away
            index.close()
            raise IndexMismatch(f"{saved}: cannot be read: {exc or type(exc).__name__}") from exc
        return index, info
