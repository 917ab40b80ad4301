"""What the index finds near an image: by one index, and by the shards of one."""

from dataclasses import dataclass
from enum import StrEnum


class NeighborReason(StrEnum):
    """By what the index found an image."""

    IDENTICAL = "identical"
    FINGERPRINT = "fingerprint"
    PART = "part"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Neighbor:
    """An image that the index finds near another."""

    relative_path: str
    score: float
    identical: bool = False
    reason: NeighborReason = NeighborReason.FINGERPRINT
    rank: int = 0
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class ShardHit:
    """A neighbor that one shard found.

    order  its place in the embeddings log
    node   images of this answer with one fingerprint have one node
    """

    neighbor: Neighbor
    order: int
    node: int


class ShardImage(StrEnum):
    """What became of the announced image in a shard."""

    ELSEWHERE = "elsewhere"
    PLACED = "placed"
    UNCHANGED = "unchanged"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class ShardAnswer:
    """What one shard of several found for one image.

    shard, shards   its index, from 0 on, and how many there are
    log, sequence   id of the embeddings topic, and the image's offset there; of a request, neither
    near            by fingerprints, best first
    local           by local codes, best first; an image may be in both
    nb_…            how many distinct fingerprints it was asked for: by whole images, by later frames, by local codes
    """

    shard: int
    shards: int
    log: str = ""
    sequence: int = -1
    image: ShardImage = ShardImage.ELSEWHERE
    near: tuple[ShardHit, ...] = ()
    local: tuple[ShardHit, ...] = ()
    nb_neighbors: int = 0
    nb_by_parts: int = 0
    nb_local: int = 0
