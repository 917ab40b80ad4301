"""The files of a saved index: `graph/` by its engine, `entries.npz` and `local.npz`, `index.json`, and checksums."""

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
from imagetools.index.state import IndexState, StoredImages

FORMAT = 5
"""Version of the files; `read` refuses any other, and the index is built from the log once."""

GRAPH = "graph"
_ENTRIES = "entries.npz"
_LOCAL = "local.npz"
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
    if head["format"] != FORMAT:
        raise IndexMismatch(f"{saved}: format {head['format']}, this version reads {FORMAT}")
    if head["engine"] != config.graph_engine:
        raise IndexMismatch(f"{saved}: INDEX_ENGINE {head['engine']}, not {config.graph_engine}")
    if head["distance_type"] != config.distance_type:
        raise IndexMismatch(f"{saved}: DISTANCE_TYPE {head['distance_type']}, not {config.distance_type}")
    if config.dimension not in (None, head["dimension"]):
        raise IndexMismatch(f"{saved}: DIMENSION {head['dimension']}, not {config.dimension}")
    state = _read_state(home / _ENTRIES, home / _LOCAL)
    state.model = head["model"]
    for name in (_HEAD, _ENTRIES, _LOCAL):
        (home / name).unlink()
    return open_graph(home / GRAPH, config, head["dimension"]), state, head["info"]


def _write_entries(file: Path, images: StoredImages) -> None:
    np.savez(file, **images._asdict())


def _write_local(file: Path, state: IndexState) -> None:
    """Write the local codes of all nodes, one after the other, with the end, the number and the node of each."""
    codes = state.local.stored()
    np.savez(
        file,
        codes=codes.codes,
        shapes=codes.shapes,
        numbers=codes.numbers,
        ends=codes.ends,
        nodes=state.numbers.nodes_of(codes.numbers),
        next_number=np.int64(state.local.next_number),
    )


def _read_state(entries: Path, local: Path) -> IndexState:
    with np.load(local, allow_pickle=False) as table:
        codes = Stored(*(table[name] for name in ("codes", "shapes", "numbers", "ends")))
        index = LocalIndex.restored(codes, int(table["next_number"]))
        numbers = NodeNumbers.restored(table["numbers"], table["nodes"])
    with np.load(entries, allow_pickle=False) as table:
        images = StoredImages(*(table[name] for name in StoredImages._fields))
    return IndexState.restored(images, index, numbers)
