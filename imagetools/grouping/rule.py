"""The rule by which connected images become groups.

1. Images that a person called duplicates of each other stay together. Where that would also bring two together that a
   person called different, the pair whose later image is earlier in the log goes first, and the contradicting one does
   not count.
2. The earliest image leads. Its group takes in whatever a joining edge connects with a member, the earliest first, as
   long as it is one picture with the leader and nobody called it different from a member.
3. The same again with the images that are left, until none is.

An image is one picture with the leader if a joining edge says so, or if comparing the two does.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from imagetools.grouping.graph import Node, PairGraph, Rank
from imagetools.grouping.records import Choice
from imagetools.grouping.relations import JOINING


@dataclass(slots=True, eq=False)
class _Clump:
    """Images that a person's word holds together, mostly a single one.

    first     the earliest
    enemies   images that a person called different from one of them
    """

    first: Node
    members: set[Node]
    enemies: set[Node] = field(default_factory=set)


def partition(graph: PairGraph, component: Iterable[Node]) -> Iterator[list[Node]]:
    """Yield the groups of a component, the earliest first, each with its earliest image first."""
    clump_of = _clumps(graph, component)
    taken: set[_Clump] = set()
    for leader in sorted(set(clump_of.values()), key=lambda clump: clump.first.rank):
        if leader not in taken:
            group = _gather(graph, leader, clump_of, taken)
            taken |= group
            yield sorted((node for clump in group for node in clump.members), key=lambda node: node.rank)


def _gather(graph: PairGraph, leader: _Clump, clump_of: dict[Node, _Clump], taken: set[_Clump]) -> set[_Clump]:
    """Return the clumps of the leader's group, among those not taken."""
    group: set[_Clump] = set()
    members: set[Node] = set()
    seen = {leader}
    waiting: list[tuple[Rank, _Clump]] = [(leader.first.rank, leader)]
    while waiting:
        clump = heappop(waiting)[1]
        if not clump.enemies.isdisjoint(members) or not _agree(graph, clump, leader):
            continue
        group.add(clump)
        members |= clump.members
        for node in clump.members:
            for other in graph.joined(node):
                reached = clump_of[other]
                if reached not in seen and reached not in taken:
                    seen.add(reached)
                    heappush(waiting, (reached.first.rank, reached))
    return group


def _agree(graph: PairGraph, clump: _Clump, leader: _Clump) -> bool:
    if clump is leader or any(_touches(node, leader) for node in clump.members):
        return True
    return graph.agree(clump.first, leader.first)


def _touches(node: Node, leader: _Clump) -> bool:
    """Return whether a joining edge leads to the leader's clump."""
    if len(leader.members) == 1:
        finding = node.edges.get(leader.first)
        return finding is not None and finding.relation in JOINING
    return any(other in leader.members and finding.relation in JOINING for other, finding in node.edges.items())


def _clumps(graph: PairGraph, component: Iterable[Node]) -> dict[Node, _Clump]:
    clumps = {node: _Clump(node, {node}) for node in component}
    words = []
    for node, clump in clumps.items():
        if node in graph.decisions:
            clump.enemies.update(graph.decided(node, Choice.NOT_DUPLICATE))
            duplicates = (other for other in graph.decided(node, Choice.DUPLICATE) if other in clumps)
            words += [(node, other) for other in duplicates if other.rank < node.rank]
    for later, earlier in sorted(words, key=lambda pair: (pair[0].rank, pair[1].rank)):
        small, large = sorted((clumps[later], clumps[earlier]), key=lambda clump: len(clump.members))
        if small is large or not small.enemies.isdisjoint(large.members):
            continue
        large.members |= small.members
        large.enemies |= small.enemies
        large.first = min(large.first, small.first, key=lambda node: node.rank)
        for node in small.members:
            clumps[node] = large
    return clumps
