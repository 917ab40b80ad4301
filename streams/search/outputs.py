"""What a search sends: the candidates of an image, as one index or as one shard of several."""

from collections.abc import Sequence
from typing import Any

from imagetools.index.change import Change
from imagetools.index.config import NEIGHBORS_BY_PARTS
from imagetools.index.search import Findings, Hit
from imagetools.local_codes import FEW_CODES, count_codes
from schemas.neighbor_records import Neighbor, NeighborReason, ShardAnswer, ShardHit
from schemas.records import Candidates, Embedding
from streams.config import Config
from streams.sharding.shards import Shard
from streams.stage import Outcome, Output, Received
from streams.topics import CANDIDATES


def more_neighbors(codes: bytes, config: Config) -> int:
    """Return how many neighbors by fingerprint an image needs beyond NB_NEIGHBORS, since its codes cannot find it."""
    return config.nb_plain if count_codes(codes) < FEW_CODES else 0


def limits(nb_neighbors: int, nb_local: int, nb_parts: int) -> tuple[int, int, int]:
    """Return how many distinct fingerprints a search shows: by whole images, by later frames alone, by local codes."""
    return nb_neighbors, min(nb_neighbors, NEIGHBORS_BY_PARTS) * (1 + 2 * nb_parts), nb_local


def found_in_shard(change: Change, found: Findings) -> tuple[tuple[ShardHit, ...], tuple[ShardHit, ...]]:
    """Return what a search found by fingerprints and by local codes, for `streams.sharding.answers.merge`."""
    near, local = (
        tuple(
            ShardHit(neighbor, hit.order, hit.node)
            for neighbor, hit in zip(to_neighbors(change, hits), hits, strict=True)
        )
        for hits in (found.near, found.local)
    )
    return near, local


def candidates(received: Received[Embedding], record: Embedding, **found: Any) -> Outcome:
    """Return the candidates of an image; `found` is either its neighbors or a shard's answer."""
    found_for = Candidates(
        record.request_id,
        received.path,
        model=record.model,
        content=record.digest,
        metadata=record.metadata,
        **found,
    )
    return (Output(CANDIDATES, received.path, found_for),)


def to_neighbors(change: Change, hits: Sequence[Hit]) -> tuple[Neighbor, ...]:
    """Return the images of an index's hits."""
    found = []
    for hit in hits:
        entry = change.entry(hit.relative_path)
        content = b"" if entry is None else entry.digest
        found.append(
            Neighbor(hit.relative_path, hit.score, hit.identical, NeighborReason(hit.reason), hit.rank, content)
        )
    return tuple(found)


def end_of_answers(received: Received[Embedding], shard: Shard, log_id: str) -> Outcome:
    """Return a shard's last answer, for every partition: from this mark of the log on it answers for no image."""
    answer = ShardAnswer(shard.index, shard.count, log_id, received.offset)
    return (Output(CANDIDATES, received.path, Candidates(0, received.path, shard=answer), everywhere=True),)
