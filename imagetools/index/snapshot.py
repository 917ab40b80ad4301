"""The files of a saved index: `graph/` by NGT, `entries.npz` and `local.npz` by numpy, `index.json`, and checksums."""

import json
import shutil
import tempfile
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from imagetools.checksums import copy_sealed, seal
from imagetools.errors import IndexMismatch
from imagetools.index.config import IndexConfig
from imagetools.index.graph import Graph
from imagetools.index.local_index import LocalIndex
from imagetools.index.local_segment import Stored
from imagetools.index.state import Entry, IndexState, Placement

FORMAT = 4
"""Version of the files; `read` refuses any other. Versions before 4 may lack local codes that the log has."""

GRAPH = "graph"
_ENTRIES = "entries.npz"
_LOCAL = "local.npz"
_HEAD = "index.json"
_DIGEST_BYTES = 32


def write(folder: Path, graph: Graph, state: IndexState, info: dict[str, Any]) -> None:
    """Write the index into a new `folder`, all or nothing; `info` is the caller's. FileExistsError."""
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        graph.copy_to(draft / GRAPH)
        _write_entries(draft / _ENTRIES, state.placements())
        _write_local(draft / _LOCAL, state)
        head = {
            "format": FORMAT,
            "dimension": graph.dimension,
            "distance_type": graph.config.distance_type,
            "model": state.model,
            "info": info,
        }
        (draft / _HEAD).write_text(json.dumps(head, ensure_ascii=False, indent=1), "utf-8")
        # no flush to the disk: the checksums tell what a power cut leaves half-written
        seal(draft)
        draft.rename(folder)
    except OSError as exc:
        if folder.exists():
            raise FileExistsError(f"{folder}: already there") from exc
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def read(saved: Path, home: Path, config: IndexConfig) -> tuple[Graph, IndexState, dict[str, Any]]:
    """Read a saved index and its info; the graph stands in `home` and runs there, `saved` stays as it is.

    SnapshotDamaged where it is not what was saved; IndexMismatch where it is of another format, dimension or distance
    type. Other exceptions come from NGT and numpy, and where the files cannot be read now.
    """
    # NGT can crash on damaged bytes, so it opens nothing but the checked copy
    copy_sealed(saved, home)
    head = json.loads((home / _HEAD).read_text("utf-8"))
    if head["format"] != FORMAT:
        raise IndexMismatch(f"{saved}: format {head['format']}, this version reads {FORMAT}")
    if head["distance_type"] != config.distance_type:
        raise IndexMismatch(f"{saved}: DISTANCE_TYPE {head['distance_type']}, not {config.distance_type}")
    if config.dimension not in (None, head["dimension"]):
        raise IndexMismatch(f"{saved}: DIMENSION {head['dimension']}, not {config.dimension}")
    state = _read_local(home / _LOCAL)
    state.model = head["model"]
    for placement in _read_entries(home / _ENTRIES):
        state.attach(placement)
    for name in (_HEAD, _ENTRIES, _LOCAL):
        (home / name).unlink()
    return Graph(home / GRAPH, config, head["dimension"]), state, head["info"]


def _write_entries(file: Path, placements: Collection[Placement]) -> None:
    """Write the images as columns; paths and nodes, which vary in length, are joined, with the end of each."""
    nodes = [placement.nodes for placement in placements]
    entries = [placement.entry for placement in placements]
    paths = [entry.relative_path.encode() for entry in entries]
    np.savez(
        file,
        nodes=np.array(list(chain.from_iterable(nodes)), np.int64),
        node_ends=np.cumsum([len(one) for one in nodes], dtype=np.int64),
        orders=np.array([entry.order for entry in entries], np.int64),
        announced=np.array([entry.announced for entry in entries], np.int64),
        sources=np.array([entry.source for entry in entries], np.int64),
        digests=np.frombuffer(b"".join(entry.digest.ljust(_DIGEST_BYTES, b"\0") for entry in entries), np.uint8),
        digested=np.array([bool(entry.digest) for entry in entries], bool),
        path_ends=np.cumsum([len(path) for path in paths], dtype=np.int64),
        paths=np.frombuffer(b"".join(paths), np.uint8),
    )


def _write_local(file: Path, state: IndexState) -> None:
    """Write the local codes of all nodes, one after the other, with the end, the number and the node of each."""
    codes = state.local.stored()
    nodes = state.numbered_nodes()
    np.savez(
        file,
        codes=codes.codes,
        shapes=codes.shapes,
        numbers=codes.numbers,
        ends=codes.ends,
        nodes=np.array([nodes[number] for number in codes.numbers.tolist()], np.int64),
        next_number=np.int64(state.local.next_number),
    )


def _read_local(file: Path) -> IndexState:
    """Return a state without images, with the local codes of their nodes."""
    with np.load(file, allow_pickle=False) as table:
        codes = Stored(*(table[name] for name in ("codes", "shapes", "numbers", "ends")))
        state = IndexState(LocalIndex.restored(codes, int(table["next_number"])))
        for number, node in zip(table["numbers"].tolist(), table["nodes"].tolist(), strict=True):
            state.set_number(node, number)
    return state


def _read_entries(file: Path) -> Iterator[Placement]:
    with np.load(file, allow_pickle=False) as table:
        nodes = table["nodes"].tolist()
        paths, digests = table["paths"].tobytes(), table["digests"].tobytes()
        names = ("orders", "announced", "sources", "digested", "path_ends", "node_ends")
        rows = zip(*(table[name].tolist() for name in names), strict=True)
        path_start = node_start = 0
        for i, (order, announced, source, digested, path_end, node_end) in enumerate(rows):
            digest = digests[_DIGEST_BYTES * i : _DIGEST_BYTES * (i + 1)] if digested else b""
            entry = Entry(order, paths[path_start:path_end].decode(), announced, digest, source)
            yield Placement(entry, tuple(nodes[node_start:node_end]))
            path_start, node_start = path_end, node_end
