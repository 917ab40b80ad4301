"""The graph of the engine that the settings name."""

from pathlib import Path

from imagetools.index.config import IndexConfig
from imagetools.index.graph import Graph


def open_graph(folder: Path, config: IndexConfig, dimension: int | None = None) -> Graph:
    """Open the graph in `folder`; where there is none, the first vector makes it.

    dimension  of its vectors, where it has some
    """
    # an engine's library is loaded where it is used
    if config.graph_engine == "NGT":
        from imagetools.index.ngt_graph import NgtGraph  # noqa: PLC0415

        return NgtGraph(folder, config, dimension)
    from imagetools.index.usearch_graph import UsearchGraph  # noqa: PLC0415

    return UsearchGraph(folder, config, dimension)
