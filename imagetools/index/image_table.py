"""The images of an index, a row each: facts of fixed size in one array, all paths in one buffer.

An image takes some 100 bytes and its path; as Python objects in dictionaries it took ten times as much.
"""

from array import array
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagetools.index.entry import DIGEST_BYTES, Entry
from imagetools.index.growing import grown
from imagetools.index.row_table import RowTable

ROW: Final = np.dtype(
    [
        ("order", np.int64),
        ("announced", np.int64),
        ("source", np.int32),
        ("node", np.uint32),
        ("digest", f"S{DIGEST_BYTES}"),
        ("digested", np.bool_),
        ("path_start", np.int64),
        ("path_length", np.uint32),
    ]
)
"""What is known of an image.

node      of the graph, where it stands as a whole
digested  whether its digest is known
path_*    where its path lies in the buffer, in bytes
"""

Rows = NDArray[np.void]

MAX_LOST: Final = 2
LOST_AT_LEAST: Final = 1 << 16
"""Bytes. The buffer is written again once more than this, and half of it, are paths of images that are gone."""


class ImageTable:
    """Images by row and by path; rows of images that are gone are used again."""

    def __init__(self) -> None:
        """Make an empty table."""
        self._rows: Rows = np.zeros(0, ROW)
        # rows that are or were in use, and which of them are free
        self._used = 0
        self._free = array("I")
        self._paths = bytearray()
        self._lost = 0
        self._by_path = RowTable()

    def __len__(self) -> int:
        """Return the number of images."""
        return self._used - len(self._free)

    def __iter__(self) -> Iterator[int]:
        """Yield all rows in use."""
        return iter(self._live().tolist())

    def find(self, relative_path: str) -> int | None:
        """Return the row of an image, None where there is none."""
        path = _encoded(relative_path)
        return next((row for row in self._by_path.rows(hash(path)) if self._path(row) == path), None)

    def entry(self, row: int) -> Entry:
        """Return the image of a row."""
        order, announced, source, _, digest, digested, start, length = self._rows[row].item()
        path = self._paths[start : start + length].decode("utf-8", "surrogatepass")
        # numpy takes zeros at the end for padding
        return Entry(order, path, announced, digest.ljust(DIGEST_BYTES, b"\0") if digested else b"", source)

    def node(self, row: int) -> int:
        """Return the node where the image of a row stands as a whole."""
        return int(self._rows["node"][row])

    def order(self, row: int) -> tuple[int, bytes]:
        """Return what puts the images of a node in their order."""
        return int(self._rows["order"][row]), self._path(row)

    def has_digest(self, row: int, digest: bytes) -> bool:
        """Tell whether the image of a row has this digest."""
        one = self._rows[row]
        return bool(one["digested"]) and bool(one["digest"] == digest.rstrip(b"\0"))

    def add(self, entry: Entry, node: int) -> int:
        """Add an image whose path is free, and return its row."""
        path = _encoded(entry.relative_path)
        if self._free:
            row = self._free.pop()
        else:
            row, self._used = self._used, self._used + 1
            self._rows = grown(self._rows, self._used)
        self._rows[row] = (
            entry.order, entry.announced, entry.source, node, entry.digest, bool(entry.digest),
            len(self._paths), len(path),
        )  # fmt: skip
        self._paths += path
        self._by_path.add(hash(path), row)
        return row

    def remove(self, row: int) -> None:
        """Forget the image of a row."""
        path = self._path(row)
        self._by_path.remove(hash(path), row)
        self._free.append(row)
        self._lost += len(path)
        if self._lost > max(LOST_AT_LEAST, len(self._paths) // MAX_LOST):
            self._rows, self._paths, self._lost = *self._with_paths_in_order(self._rows, self._live()), 0

    def stored(self) -> tuple[Rows, bytearray, NDArray[np.int64]]:
        """Return all images without gaps, the buffer of their paths, and the row that each has here."""
        live = self._live()
        rows = self._rows[live]
        rows, paths = self._with_paths_in_order(rows, np.arange(len(rows)))
        return rows, paths, live

    @classmethod
    def restored(cls, rows: Rows, paths: bytearray) -> "ImageTable":
        """Make a table of what `stored` returned; the rows keep their numbers."""
        table = cls()
        table._rows, table._paths, table._used = rows, paths, len(rows)
        every = np.arange(len(rows))
        hashes = np.fromiter((hash(table._path(row)) for row in range(len(rows))), np.int64, len(rows))
        table._by_path = RowTable.of(hashes, every)
        return table

    def _path(self, row: int) -> bytes:
        start, length = self._rows["path_start"][row], self._rows["path_length"][row]
        return bytes(self._paths[start : start + length])

    def _live(self) -> NDArray[np.int64]:
        live = np.ones(self._used, np.bool_)
        live[np.frombuffer(self._free, np.uint32)] = False
        return np.flatnonzero(live)

    def _with_paths_in_order(self, rows: Rows, which: NDArray[np.int64]) -> tuple[Rows, bytearray]:
        """Return a copy of the rows, and the paths of some of them, one after the other."""
        rows, paths = rows.copy(), bytearray()
        lengths = rows["path_length"][which].astype(np.int64)
        for start, length in zip(rows["path_start"][which].tolist(), lengths.tolist(), strict=True):
            paths += self._paths[start : start + length]
        rows["path_start"][which] = np.cumsum(lengths) - lengths
        return rows, paths


def _encoded(relative_path: str) -> bytes:
    return relative_path.encode("utf-8", "surrogatepass")


def digest_hash(digest: bytes) -> int:
    """Return the hash of a digest for a `RowTable`: its first bytes are as good as any."""
    return int.from_bytes(digest[:4], "little")


def digest_hashes(rows: Rows) -> NDArray[np.uint64]:
    """Return `digest_hash` of every row's digest."""
    digests: Any = np.ascontiguousarray(rows["digest"])
    heads = digests.view("<u4").reshape(len(rows), DIGEST_BYTES // 4)[:, 0]
    return np.asarray(heads, np.uint64)
