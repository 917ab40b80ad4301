"""The answers of all shards for one image, merged into what one index would have found."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from imagetools.index.config import MAX_PER_NODE
from schemas.neighbor_records import Neighbor, NeighborReason, ShardAnswer, ShardHit

SAME_SCORE: Final = 1e-5
"""Nodes of two shards whose scores are as close have one fingerprint: copies of one image are in all shards, and must
not take the places of other neighbors. Two different nodes this close are rare, and only bring one neighbor more."""


@dataclass
class _Node:
    """Images with one fingerprint, found with one score."""

    score: float
    hits: list[ShardHit]

    @property
    def shown(self) -> list[Neighbor]:
        """At most MAX_PER_NODE: the earliest first, wholes before parts; one with equal bytes is always among them."""
        ordered = sorted(self.hits, key=lambda hit: (hit.neighbor.reason is NeighborReason.PART, hit.order))
        images = [hit.neighbor for hit in ordered]
        shown = images[:MAX_PER_NODE]
        twin = next((one for one in images if one.identical), None)
        if twin is not None and twin not in shown:
            shown[-1] = twin
        return shown

    @property
    def by_parts_alone(self) -> bool:
        """Whether no image was found as a whole."""
        return all(hit.neighbor.reason is NeighborReason.PART for hit in self.hits)


def merge(answers: Sequence[ShardAnswer]) -> tuple[Neighbor, ...]:
    """Return the neighbors that one index would have found: by fingerprints, then the further ones by local codes.

    answers  of each shard; all were asked for as many
    """
    asked = answers[0]
    near = _ranked(_nearest(_nodes(one.near for one in answers), asked.nb_neighbors, asked.nb_by_parts))
    local_nodes = _nodes(one.local for one in answers)[: asked.nb_local]
    local = _ranked(image for node in local_nodes for image in node.shown)
    known = {image.relative_path for image in near}
    return (*near, *(image for image in local if image.relative_path not in known))


def _nodes(found: Iterable[Sequence[ShardHit]]) -> list[_Node]:
    """Return the nodes of all shards, best first; one that several shards hold is one node."""
    merged: list[_Node] = []
    for hits in found:
        own: dict[tuple[int, float], _Node] = {}
        for hit in hits:
            score = hit.neighbor.score
            own.setdefault((hit.node, score), _Node(score, [])).hits.append(hit)
        merged = list(_joined(merged, sorted(own.values(), key=lambda node: -node.score)))
    return merged


def _joined(some: list[_Node], others: list[_Node]) -> Iterator[_Node]:
    """Yield the nodes of both, best first. Nodes of one list are different ones, whatever their scores."""
    waiting = others[::-1]
    for node in some:
        while waiting and waiting[-1].score > node.score + SAME_SCORE:
            yield waiting.pop()
        # below 0 all cosines are one score
        if waiting and node.score > 0 and waiting[-1].score >= node.score - SAME_SCORE:
            same = waiting.pop()
            yield _Node(max(node.score, same.score), [*node.hits, *same.hits])
        else:
            yield node
    yield from reversed(waiting)


def _nearest(nodes: Iterable[_Node], nb_neighbors: int, nb_by_parts: int) -> Iterator[Neighbor]:
    """Yield the images of as many nodes as one search shows; nodes found by parts alone come on top."""
    for node in nodes:
        if node.by_parts_alone:
            if nb_by_parts > 0:
                nb_by_parts -= 1
                yield from node.shown
        elif nb_neighbors > 0:
            nb_neighbors -= 1
            yield from node.shown


def _ranked(images: Iterable[Neighbor]) -> list[Neighbor]:
    return [replace(one, rank=rank) for rank, one in enumerate(images, 1)]
