"""The files of a saved index: `graph/` by its engine, `entries.npz`, `local/`, `index.json`, and checksums."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from imagetools.checksums import copy_sealed, seal
from imagetools.errors import IndexMismatch
from imagetools.index.config import IndexConfig
from imagetools.index.engines import open_graph
from imagetools.index.graph import Graph
from imagetools.index.local_index import LocalIndex
from imagetools.index.local_segment import Stored
from imagetools.index.node_numbers import NodeNumbers
from imagetools.index.saved_segments import read_segments, write_segments
from imagetools.index.state import IndexState, StoredImages

FORMAT = 6
"""Version of the files."""

CODES_ALONE = 5
"""An earlier version, with local codes without their tables in `local.npz`. `read` refuses any other than these two,
and the index is built from the log once."""

GRAPH = "graph"
_ENTRIES = "entries.npz"
_LOCAL = "local"
_LOCAL_5 = "local.npz"
_NUMBERS = "numbers.npz"
_HEAD = "index.json"


def write(folder: Path, graph: Graph, state: IndexState, info: dict[str, Any]) -> None:
    """Write the index into a new `folder`, all or nothing; `info` is the caller's. FileExistsError."""
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        graph.copy_to(draft / GRAPH)
        _write_entries(draft / _ENTRIES, state.stored())
        _write_local(draft / _LOCAL, state)
        head = {
            "format": FORMAT,
            "dimension": graph.dimension,
            "engine": graph.config.graph_engine,
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
    type. Other exceptions come from the engine and numpy, and where the files cannot be read now.
    """
    # engines can crash on damaged bytes, so it opens nothing but the checked copy
    copy_sealed(saved, home)
    head = json.loads((home / _HEAD).read_text("utf-8"))
    if head["format"] not in (FORMAT, CODES_ALONE):
        raise IndexMismatch(f"{saved}: format {head['format']}, this version reads {CODES_ALONE} and {FORMAT}")
    if head["engine"] != config.graph_engine:
        raise IndexMismatch(f"{saved}: INDEX_ENGINE {head['engine']}, not {config.graph_engine}")
    if head["distance_type"] != config.distance_type:
        raise IndexMismatch(f"{saved}: DISTANCE_TYPE {head['distance_type']}, not {config.distance_type}")
    if config.dimension not in (None, head["dimension"]):
        raise IndexMismatch(f"{saved}: DIMENSION {head['dimension']}, not {config.dimension}")
    local, numbers = _read_local(home / _LOCAL) if head["format"] == FORMAT else _read_local_5(home / _LOCAL_5)
    with np.load(home / _ENTRIES, allow_pickle=False) as table:
        images = StoredImages(*(table[name] for name in StoredImages._fields))
    state = IndexState.restored(images, local, numbers)
    state.model = head["model"]
    for left in home.iterdir():
        if left.name != GRAPH:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return open_graph(home / GRAPH, config, head["dimension"]), state, head["info"]


def _write_entries(file: Path, images: StoredImages) -> None:
    np.savez(file, **images._asdict())


def _write_local(folder: Path, state: IndexState) -> None:
    """Write the local codes of all nodes, and the number and the node of each."""
    folder.mkdir()
    segments = state.local.stored()
    write_segments(folder, segments)
    numbers = np.concatenate([np.empty(0, np.uint32), *(segment.numbers for segment in segments)])
    next_number = np.int64(state.local.next_number)
    np.savez(folder / _NUMBERS, numbers=numbers, nodes=state.numbers.nodes_of(numbers), next_number=next_number)


def _read_local(folder: Path) -> tuple[LocalIndex, NodeNumbers]:
    with np.load(folder / _NUMBERS, allow_pickle=False) as table:
        local = LocalIndex.restored(read_segments(folder), int(table["next_number"]))
        return local, NodeNumbers.restored(table["numbers"], table["nodes"])


def _read_local_5(file: Path) -> tuple[LocalIndex, NodeNumbers]:
    with np.load(file, allow_pickle=False) as table:
        codes = Stored(*(table[name] for name in ("codes", "shapes", "numbers", "ends")))
        local = LocalIndex.of(codes, int(table["next_number"]))
        return local, NodeNumbers.restored(table["numbers"], table["nodes"])
