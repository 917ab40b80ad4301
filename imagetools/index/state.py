"""Which images stand where in the graph."""

from bisect import insort
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from imagetools.index.local_index import LocalIndex


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One image of the index.

    order      its place among all changes; a search always returns the earliest image of a node
    announced  when it was announced, milliseconds since 1970
    digest     SHA-256 of its bytes, empty where unknown
    source     which of several sources announced it; -1 where unknown
    """

    order: int
    relative_path: str
    announced: int = 0
    digest: bytes = b""
    source: int = -1


@dataclass(frozen=True, slots=True)
class Placement:
    """An image and its nodes: that of the whole first, then those of its parts."""

    entry: Entry
    nodes: tuple[int, ...]


class IndexState:
    """The images of the index: by path, by node and by digest; and the local codes of the nodes.

    Images that stand on one node as a whole look the same, so the node has the local codes of one of them, under a
    number of its own.

    model  what made the fingerprints; None until the first one that names it
    local  the local codes, by number
    """

    def __init__(self, local: LocalIndex | None = None) -> None:
        self.model: str | None = None
        self.local = local or LocalIndex()
        self._numbers: dict[int, int] = {}
        self._numbered: dict[int, int] = {}
        self._placements: dict[str, Placement] = {}
        self._members: dict[int, list[Entry]] = {}
        self._digests: dict[bytes, int] = {}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._placements)

    @property
    def nb_nodes(self) -> int:
        """How many distinct fingerprints the images have."""
        return len(self._members)

    def placements(self) -> Collection[Placement]:
        """Return all images, in no order."""
        return self._placements.values()

    def placement(self, relative_path: str) -> Placement | None:
        """Return where an image stands, None where it is not in the index."""
        return self._placements.get(relative_path)

    def members(self, node: int) -> Sequence[Entry]:
        """Return the images of a node, earliest first."""
        return self._members.get(node, ())

    def node_of(self, digest: bytes) -> int | None:
        """Return the node where images with these bytes stand as a whole, None where there is none."""
        return self._digests.get(digest)

    def number_of(self, node: int) -> int | None:
        """Return the number of a node's local codes, None where it has none."""
        return self._numbers.get(node)

    def node_numbered(self, number: int) -> int | None:
        """Return the node whose local codes have this number, None where there is none."""
        return self._numbered.get(number)

    def numbered_nodes(self) -> Mapping[int, int]:
        """Return the nodes with local codes, by their number."""
        return self._numbered

    def set_number(self, node: int, number: int | None) -> None:
        """Give a node's local codes a number; None: it has none. The codes themselves are the caller's."""
        old = self._numbers.pop(node, None)
        if old is not None:
            del self._numbered[old]
        if number is not None:
            self._numbers[node], self._numbered[number] = number, node

    def attach(self, placement: Placement) -> None:
        """Add an image; its path must be free."""
        entry = placement.entry
        for node in placement.nodes:
            insort(self._members.setdefault(node, []), entry)
        self._placements[entry.relative_path] = placement
        if entry.digest:
            self._digests[entry.digest] = placement.nodes[0]

    def detach(self, relative_path: str) -> Sequence[int]:
        """Take an image out and return its nodes; KeyError where it is not in the index."""
        placement = self._placements.pop(relative_path)
        entry, nodes = placement.entry, placement.nodes
        for node in nodes:
            self._members[node].remove(entry)
        if entry.digest and not any(other.digest == entry.digest for other in self._members[nodes[0]]):
            del self._digests[entry.digest]
        return nodes

    def drop_empty(self, nodes: Iterable[int]) -> Iterator[int]:
        """Forget those of the nodes that no image stands on, and yield them."""
        for node in nodes:
            if not self._members[node]:
                del self._members[node]
                yield node
