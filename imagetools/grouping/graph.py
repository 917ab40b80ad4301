"""All images, verified pairs and decisions, as a graph."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from imagetools.grouping.records import Choice, Compare, Edge, ImageKey
from imagetools.grouping.relations import JOINING, STRENGTH, Relation

Rank = tuple[int, str]
"""Orders images: place in the log, then path."""


class Finding(NamedTuple):
    """A verdict on a pair, seen from one of its images."""

    relation: Relation
    score: float


@dataclass(slots=True)
class Component:
    """Images that joining edges and decisions connect, whatever group each is in.

    last     rank of its latest image
    decided  whether there is a decision on one of its images
    part_of  the component that this one has become part of
    """

    size: int
    last: Rank
    decided: bool
    part_of: "Component | None" = None

    @property
    def whole(self) -> "Component":
        """The component that this one has become part of, or itself."""
        found = self
        while found.part_of is not None:
            found = found.part_of
        if found is not self:
            self.part_of = found
        return found

    def join(self, other: "Component") -> None:
        """Become one with another component."""
        mine, others = self.whole, other.whole
        if mine is others:
            return
        small, large = sorted((mine, others), key=lambda component: component.size)
        large.size += small.size
        large.last = max(large.last, small.last)
        large.decided |= small.decided
        small.part_of = large


@dataclass(slots=True, eq=False)
class Cluster:
    """The images of one group, or an image by itself.

    stale  one of its members is gone: it is about to be replaced
    """

    members: list["Node"]
    part_of: Component
    stale: bool = False

    @property
    def component(self) -> Component:
        """The component that its images belong to."""
        return self.part_of.whole

    @property
    def leader(self) -> "Node":
        """The earliest image."""
        return self.members[0]


@dataclass(slots=True, eq=False)
class Node:
    """An image at one content.

    place    in the log; None where the path has other bytes now, or is not known
    edges    verdicts on pairs with others, current or not
    cluster  of a current image
    """

    key: ImageKey
    place: int | None = None
    edges: dict["Node", Finding] = field(default_factory=dict)
    cluster: Cluster | None = None

    @property
    def rank(self) -> Rank:
        """Order among current images."""
        assert self.place is not None
        return self.place, self.key.path

    @property
    def group(self) -> Cluster:
        """The cluster of a current image."""
        assert self.cluster is not None
        return self.cluster


class PairGraph:
    """Nodes, edges and decisions. Edges and decisions stay when an image goes, since it may come back.

    steps     edges that were looked at since the beginning
    compared  pairs that `compare` was asked for
    """

    def __init__(self, compare: Compare) -> None:
        self.nodes: dict[ImageKey, Node] = {}
        self.current: dict[str, Node] = {}
        self.decisions: dict[Node, dict[Node, Choice]] = {}
        self.steps = 0
        self.compared = 0
        self._compare = compare
        self._answers: dict[Node, dict[Node, Relation]] = {}

    def node(self, key: ImageKey) -> Node:
        """Return the node of an image, new if there is none."""
        node = self.nodes.get(key)
        if node is None:
            node = self.nodes[key] = Node(key)
        return node

    def put_edge(self, edge: Edge) -> bool:
        """Add a verdict; return whether it says more than what was known of the pair."""
        relation = edge.relation
        left, right = self.node(edge.left), self.node(edge.right)
        if right.key < left.key:
            # in one order, so that of "crop" and "contains" the same one is the stronger from either image
            left, right, relation = right, left, relation.turned
        known, finding = left.edges.get(right), Finding(relation, edge.score)
        if known is not None and _strength(known) >= _strength(finding):
            return False
        left.edges[right] = finding
        right.edges[left] = finding if relation.turned is relation else Finding(relation.turned, edge.score)
        return True

    def decide(self, left: Node, right: Node, choice: Choice | None) -> None:
        """Set or undo a decision."""
        for one, two in ((left, right), (right, left)):
            if choice is not None:
                self.decisions.setdefault(one, {})[two] = choice
            elif one in self.decisions:
                self.decisions[one].pop(two, None)
                if not self.decisions[one]:
                    del self.decisions[one]

    def choice(self, one: Node, two: Node) -> Choice | None:
        """Return a person's word on a pair."""
        said = self.decisions.get(one)
        return said.get(two) if said else None

    def related(self, node: Node) -> Iterator[tuple[Node, Finding]]:
        """Yield the current images that an edge leads to which no decision denies."""
        self.steps += len(node.edges)
        said = self.decisions.get(node, {})
        for other, finding in node.edges.items():
            if other.place is not None and said.get(other) is not Choice.NOT_DUPLICATE:
                yield other, finding

    def joined(self, node: Node) -> list[Node]:
        """Return the current images that a joining edge or a person's word connects with this one."""
        found = [other for other, finding in self.related(node) if finding.relation in JOINING]
        if node in self.decisions:
            found += [other for other in self.decided(node, Choice.DUPLICATE) if other.place is not None]
        return found

    def decided(self, node: Node, choice: Choice) -> list[Node]:
        """Return the images on whose pair with this one a person said so."""
        return [other for other, said in self.decisions.get(node, {}).items() if said is choice]

    def told(self, one: Node, two: Node) -> Relation | None:
        """Return what an edge or equal bytes tell of a pair; None where neither does."""
        finding = one.edges.get(two)
        if finding is not None:
            return finding.relation
        return Relation.IDENTICAL if one.key.content == two.key.content else None

    def answer(self, one: Node, two: Node) -> Relation | None:
        """Return what an earlier comparison of a pair told."""
        return self._answers.get(one, {}).get(two)

    def agree(self, one: Node, two: Node) -> bool:
        """Return whether both are one picture; compare them where nothing is known."""
        relation = self.told(one, two)
        if relation is None:
            relation = self.answer(one, two)
        if relation is None:
            # in one order, whichever is asked for
            first, second = sorted((one, two), key=lambda node: node.key)
            relation = self._compare(first.key, second.key)
            self.compared += 1
            if relation is None:
                return False
            self._answers.setdefault(first, {})[second] = relation
            self._answers.setdefault(second, {})[first] = relation.turned
        return relation in JOINING

    def forget_answers(self, node: Node) -> None:
        """Drop what comparisons said of an image that is gone."""
        for other in self._answers.pop(node, ()):
            del self._answers[other][node]

    def drop_edges(self, node: Node) -> list[Node]:
        """Remove the edges of a node that is not current, and the node unless there is a decision on it.

        Return the nodes at the other ends.
        """
        others = list(node.edges)
        for other in others:
            del other.edges[node]
        node.edges = {}
        if node not in self.decisions:
            del self.nodes[node.key]
        return others


def _strength(finding: Finding) -> tuple[int, float]:
    return STRENGTH[finding.relation], finding.score
