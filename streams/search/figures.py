"""What a search shows of its index to those who watch it."""

from streams.search.log_index import LogIndex
from streams.sharding.shards import Shard
from streams.stage import Figure


def index_figures(log_index: LogIndex, shard: Shard) -> tuple[Figure, ...]:
    """Return the index's size, place in the log, newest snapshot, engine and model."""
    index = log_index.index
    engine, model = index.config.graph_engine, index.model or "none"
    return (
        Figure("index_images", "Images in the index.", len(index)),
        Figure("index_fingerprints", "Distinct fingerprints in the index.", index.nb_nodes),
        Figure("index_shared_fingerprints", "Fingerprints that several images have.", index.nb_shared_nodes),
        Figure("index_local_codes", "Local codes in the index.", len(index.local)),
        Figure("index_offset", "The offset of the log that the index stands at.", log_index.offset or 0),
        Figure(
            "index_snapshot_time_seconds",
            "When the newest snapshot was written, since 1970; 0: there is none.",
            log_index.newest_snapshot,
        ),
        Figure("index_engine", "What finds the nearest fingerprints.", 1, labels=(("engine", engine),)),
        Figure("index_shard", "The shard of the index, and of how many.", 1, labels=(("shard", str(shard)),)),
        Figure("model", "The model of the fingerprints.", 1, labels=(("model", model),)),
    )
