"""From the nearest nodes to the images that a search returns."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from imagetools.index.config import MAX_PER_NODE, NEIGHBORS_BY_PARTS
from imagetools.index.distance import Vector
from imagetools.index.entry import Entry
from imagetools.index.view import View
from imagetools.local_codes import LocalCodes

MAX_WIDENING = 8
"""A search looks at up to this many times as many nodes where images that are near by a part crowd out the others."""


_Found = tuple[Entry, float, int]
"""An image, its score, and the node where it was found."""


class Reason(StrEnum):
    """By what a search found an image.

    IDENTICAL    the same bytes
    FINGERPRINT  the fingerprint of the whole
    PART         the fingerprint of a later frame of either of the two, or in earlier records of a picture inside it
    LOCAL        local codes that both have
    """

    IDENTICAL = "identical"
    FINGERPRINT = "fingerprint"
    PART = "part"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Hit:
    """An image that a search found.

    score      in [0, 1]: max(0, cosine) for the cosine types and Angle, 1 / (1 + distance) for L1 and L2; of v votes of
               local codes, v / (1 + v)
    identical  it has the same bytes
    reason     by what it was found
    rank       its place among those found by fingerprints, or by local codes; 1 is the best
    order      its place among all changes of the index
    node       where it was found; images with one fingerprint share a node
    """

    relative_path: str
    score: float
    identical: bool = False
    reason: Reason = field(default=Reason.FINGERPRINT, compare=False)
    rank: int = field(default=0, compare=False)
    order: int = field(default=-1, compare=False)
    node: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a search found.

    near   by fingerprints, best first
    local  by local codes, best first; an image may be in both
    """

    near: Sequence[Hit] = ()
    local: Sequence[Hit] = ()

    @property
    def hits(self) -> list[Hit]:
        """Each image once: those of `near`, then the further ones of `local`."""
        known = {hit.relative_path for hit in self.near}
        return [*self.near, *(hit for hit in self.local if hit.relative_path not in known)]


def search(view: View, whole: Vector, nb_neighbors: int, *, digest: bytes, parts: Sequence[Vector]) -> list[Hit]:
    """Find the nearest images, best first; see `Change.search`. The vectors are checked."""
    found: dict[str, Hit] = {}
    # equal bytes may have fingerprints that differ in their last bits, on a node further away
    twin = view.node_of(digest) if digest else None
    first = twin if twin is not None and view.is_live(twin) else None
    by_parts = min(nb_neighbors, NEIGHBORS_BY_PARTS)
    for vector, size, node in ((whole, nb_neighbors, first), *((part, by_parts, None) for part in parts)):
        for entry, score, at in _nearest_images(view, vector, size, digest, first=node, by_parts=by_parts):
            known = found.get(entry.relative_path)
            if known is None or known.score < score:
                by_wholes = vector is whole and view.stands_whole(entry, at)
                found[entry.relative_path] = _hit(
                    entry, score, digest, Reason.FINGERPRINT if by_wholes else Reason.PART, at
                )
    return _ranked(sorted(found.values(), key=lambda hit: -hit.score) if parts else found.values())


def search_codes(view: View, codes: LocalCodes, nb_local: int, *, digest: bytes) -> list[Hit]:
    """Find the images that share local codes, best first; `nb_local` counts distinct fingerprints."""
    found = []
    for node, votes in view.with_detail_of(codes, nb_local):
        wholes = [entry for entry in _shown(view, node, digest) if view.stands_whole(entry, node)]
        found += [_hit(entry, votes / (1 + votes), digest, Reason.LOCAL, node) for entry in wholes]
    return _ranked(found)


def _hit(entry: Entry, score: float, digest: bytes, reason: Reason, node: int) -> Hit:
    identical = bool(digest) and entry.digest == digest
    return Hit(
        entry.relative_path, score, identical, Reason.IDENTICAL if identical else reason, order=entry.order, node=node
    )


def _ranked(hits: Iterable[Hit]) -> list[Hit]:
    return [replace(hit, rank=rank) for rank, hit in enumerate(hits, 1)]


def _nearest_images(
    view: View, vector: Vector, size: int, digest: bytes, *, first: int | None, by_parts: int
) -> Sequence[_Found]:
    """The images of the nearest `size` nodes, `first` before all, and of `by_parts` nodes where they stand by a part.

    A node without further images does not count: an image with parts stands on several.
    """
    wanted = size + by_parts
    while True:
        nodes = view.nearest(vector, wanted)
        images, missing = _images_of(view, _with_first(first, nodes), digest, size, by_parts)
        if not missing or len(nodes) < wanted or wanted > MAX_WIDENING * (size + by_parts):
            return images
        # images by parts may crowd out the others
        wanted *= 2


def _images_of(
    view: View, nodes: Sequence[tuple[int, float]], digest: bytes, size: int, by_parts: int
) -> tuple[Sequence[_Found], int]:
    """The images of at most `size` nodes and `by_parts` more, each once, and how many of the `size` are missing."""
    images: dict[str, _Found] = {}
    for node, score in nodes:
        if size <= 0:
            break
        shown = [entry for entry in _shown(view, node, digest) if entry.relative_path not in images]
        if not shown:
            continue
        if any(view.stands_whole(entry, node) for entry in shown):
            size -= 1
        elif by_parts:
            by_parts -= 1
        else:
            continue
        images.update((entry.relative_path, (entry, score, node)) for entry in shown)
    return list(images.values()), size


def _shown(view: View, node: int, digest: bytes) -> Sequence[Entry]:
    """The images of a node that a search returns, at most MAX_PER_NODE: the earliest first, wholes before parts.

    One with equal bytes is always among them.
    """
    wholes: list[Entry] = []
    by_parts: list[Entry] = []
    twin: Entry | None = None
    sought = bool(digest) and view.node_of(digest) == node
    for entry in view.members(node):
        if sought and twin is None and entry.digest == digest:
            twin = entry
        kind = wholes if view.stands_whole(entry, node) else by_parts
        if len(kind) < MAX_PER_NODE:
            kind.append(entry)
        elif len(wholes) == MAX_PER_NODE and (twin or not sought):
            break
    shown = (wholes + by_parts)[:MAX_PER_NODE]
    if twin is not None and twin not in shown:
        shown[-1] = twin
    return shown


def _with_first(first: int | None, nodes: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    return nodes if first is None else [(first, 1.0), *(hit for hit in nodes if hit[0] != first)]
