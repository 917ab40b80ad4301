"""Groups of images, kept in step with images, verified pairs and decisions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from imagetools.grouping.describe import describe, is_group, relation_between
from imagetools.grouping.events import events_of
from imagetools.grouping.graph import Cluster, Component, Node, PairGraph
from imagetools.grouping.records import (
    Choice,
    Compare,
    Decision,
    Edge,
    Gone,
    Group,
    GroupEvent,
    GroupingChange,
    ImageKey,
    Placed,
    Undone,
)
from imagetools.grouping.relations import JOINING, Relation
from imagetools.grouping.rule import partition

_STEP: Final = 1000
"""Images that `Grouping.divide` takes in one step, or one component more."""


@dataclass(slots=True)
class _Batch:
    """What the changes of one batch touch.

    before    of each image that may be in another group afterwards: the group's id before, None for a new image
    marked    images with another edge or decision
    arrived   images with a new joining edge to another component; it may be enough to add them to one group
    dirty     images whose components are divided again
    """

    before: dict[Node, ImageKey | None] = field(default_factory=dict)
    marked: set[Node] = field(default_factory=set)
    arrived: set[Node] = field(default_factory=set)
    dirty: set[Node] = field(default_factory=set)


class Grouping:
    """Divides images into groups, by the rule in `imagetools.grouping.rule`.

    The groups depend on the current images and on what is known of their pairs, and on nothing else: not on the order
    in which it became known, nor on how it was cut into batches. Only the changes of one path, and the decisions on
    one pair, have to come in their order in the log. Not safe to call from two threads.
    """

    def __init__(self, compare: Compare) -> None:
        """Start without images.

        compare  asked for the pairs that the rule needs and no edge tells of; each until there is an answer, and not
                 again while both images stay
        """
        self._graph = PairGraph(compare)
        self._published: set[ImageKey] = set()

    def apply(self, changes: Iterable[GroupingChange]) -> list[GroupEvent]:
        """Take a batch of changes; return what became of the groups.

        What `compare` raises is passed on; the groups are undefined afterwards.
        """
        batch = _Batch()
        for change in changes:
            self._take(change, batch)
        self._settle(batch)
        return events_of(self._graph, batch.before, batch.marked, self._published)

    def load(self, changes: Iterable[GroupingChange]) -> None:
        """Take what is known already, without dividing it: `divide` must follow before anything else is asked."""
        batch = _Batch()
        for change in changes:
            self._take(change, batch)

    def divide(self) -> Iterator[None]:
        """Divide what was loaded into groups, without events, in small steps; yields after each.

        The groups are those that `apply` gives, and the pairs that `compare` is asked for are among those that `apply`
        asks for.
        """
        batch, done = _Batch(), set[Node]()
        seen = 0
        for node in sorted(self._graph.current.values(), key=lambda node: node.rank):
            if node not in done:
                done |= self._divide(node, batch)
            if len(done) - seen >= _STEP:
                seen = len(done)
                yield
        clusters = {node.group for node in done}
        self._published = {cluster.leader.key for cluster in clusters if is_group(self._graph, cluster)}

    def group(self, group_id: ImageKey) -> Group | None:
        """Return a group by its id; None if there is none."""
        node = self._graph.nodes.get(group_id)
        if node is None or group_id not in self._published:
            return None
        return describe(self._graph, node.group)

    def group_of(self, image: ImageKey) -> ImageKey | None:
        """Return the id of the group that an image is in; None if it is in none."""
        node = self._graph.nodes.get(image)
        if node is None or node.cluster is None:
            return None
        leader = node.cluster.leader.key
        return leader if leader in self._published else None

    def groups(self) -> Iterator[Group]:
        """Yield all groups, in the order of their earliest images."""
        nodes = (self._graph.nodes[key] for key in self._published)
        for node in sorted(nodes, key=lambda node: node.rank):
            yield describe(self._graph, node.group)

    def pairs(self, image: ImageKey) -> Iterator[ImageKey]:
        """Yield the images that verified pairs connect with an image, but for pairs that a person denies."""
        for other, _ in self._graph.related(self._graph.nodes[image]):
            yield other.key

    def edge(self, one: ImageKey, two: ImageKey) -> Edge | None:
        """Return the verdict on a pair that counts; None if there is none."""
        left, right = self._graph.nodes.get(one), self._graph.nodes.get(two)
        finding = left.edges.get(right) if left is not None and right is not None else None
        return None if finding is None else Edge(one, two, finding.relation, finding.score)

    def relation(self, image: ImageKey, other: ImageKey) -> Relation:
        """Return what one member of a group is to another."""
        return relation_between(self._graph, self._graph.nodes[image], self._graph.nodes[other])

    def has_pairs(self, image: ImageKey) -> bool:
        """Return whether a verdict on a pair of this image is known, which may not be current."""
        node = self._graph.nodes.get(image)
        return node is not None and bool(node.edges)

    def gone_with_pairs(self) -> Iterator[ImageKey]:
        """Yield the images that are not current, and that verdicts are about."""
        return (node.key for node in self._graph.nodes.values() if node.place is None and node.edges)

    def forget_pairs(self, image: ImageKey) -> list[ImageKey]:
        """Forget the verdicts on pairs of an image that is not current; return the others. Decisions stay."""
        node = self._graph.nodes.get(image)
        if node is None:
            return []
        if node.place is not None:
            raise ValueError(f"{image.path} is there")
        return [other.key for other in self._graph.drop_edges(node)]

    def __len__(self) -> int:
        """Return the number of current images."""
        return len(self._graph.current)

    @property
    def nb_groups(self) -> int:
        """How many groups there are."""
        return len(self._published)

    @property
    def steps(self) -> int:
        """Edges that were looked at since the beginning: the measure of work done."""
        return self._graph.steps

    @property
    def compared(self) -> int:
        """Pairs that `compare` was asked for since the beginning."""
        return self._graph.compared

    def _take(self, change: GroupingChange, batch: _Batch) -> None:
        match change:
            case Placed():
                self._place(change, batch)
            case Gone(path):
                self._remove(path, batch)
            case Edge():
                self._put_edge(change, batch)
            case Decision(left, right, choice):
                self._decide(left, right, choice, batch)
            case Undone(left, right):
                self._decide(left, right, None, batch)

    def _place(self, change: Placed, batch: _Batch) -> None:
        node = self._graph.node(ImageKey(change.path, change.content))
        if self._graph.current.get(change.path) is node:
            return
        self._remove(change.path, batch)
        batch.before.setdefault(node, None)
        node.place = change.place
        self._graph.current[change.path] = node
        node.cluster = Cluster([node], Component(1, node.rank, node in self._graph.decisions))
        batch.marked.add(node)
        batch.arrived.add(node)
        for other in self._graph.joined(node):
            batch.arrived.add(max(node, other, key=lambda one: one.rank))
        if node in self._graph.decisions:
            batch.dirty.add(node)

    def _remove(self, path: str, batch: _Batch) -> None:
        node = self._graph.current.pop(path, None)
        if node is None:
            return
        batch.before.setdefault(node, node.group.leader.key)
        batch.marked.update(other for other, _ in self._graph.related(node))
        batch.marked.update(node.group.members)
        batch.dirty.update(self._graph.joined(node))
        node.group.stale = True
        node.place = node.cluster = None
        self._graph.forget_answers(node)

    def _put_edge(self, edge: Edge, batch: _Batch) -> None:
        if edge.left == edge.right:
            raise ValueError(f"a pair of {edge.left.path} with itself")
        if not self._graph.put_edge(edge):
            return
        left, right = self._graph.nodes[edge.left], self._graph.nodes[edge.right]
        if left.place is None or right.place is None:
            return
        batch.marked |= {left, right}
        if left.group.component is not right.group.component:
            if edge.relation in JOINING:
                batch.arrived.add(max(left, right, key=lambda node: node.rank))
        elif edge.relation not in JOINING or left.cluster is not right.cluster or left.group.component.decided:
            batch.dirty.add(left)

    def _decide(self, one: ImageKey, two: ImageKey, choice: Choice | None, batch: _Batch) -> None:
        if one == two:
            raise ValueError(f"a decision on a pair of {one.path} with itself")
        left, right = self._graph.node(one), self._graph.node(two)
        if self._graph.choice(left, right) is choice:
            return
        self._graph.decide(left, right, choice)
        for node in (left, right):
            if node.place is not None:
                batch.marked.add(node)
                batch.dirty.add(node)

    def _settle(self, batch: _Batch) -> None:
        for node in sorted((node for node in batch.arrived if node.place is not None), key=lambda node: node.rank):
            if not self._attach(node, batch):
                batch.dirty.add(node)
        done: set[Node] = set()
        for node in batch.dirty:
            if node.place is not None and node not in done:
                done |= self._divide(node, batch)

    def _attach(self, node: Node, batch: _Batch) -> bool:
        """Add an image that stands alone to components whose other images are earlier, without dividing them again.

        Return False where that could give other groups than dividing would: where the image makes two groups one, or
        a person has decided on one of the images.
        """
        graph, own = self._graph, node.group
        if own.component.size > 1 or node in graph.decisions or node in batch.dirty:
            return False
        # those later in the log have arrived, too, and have their turn
        earlier = [other for other in graph.joined(node) if other.rank < node.rank]
        if any(other.group.stale for other in earlier):
            return False
        clusters = sorted({other.group for other in earlier}, key=lambda cluster: cluster.leader.rank)
        components = [cluster.component for cluster in clusters]
        if any(component.decided or component.last >= node.rank for component in components):
            return False
        home = next((cluster for cluster in clusters if graph.agree(node, cluster.leader)), own)
        if home is not own:
            later = clusters[clusters.index(home) + 1 :]
            if any(graph.agree(other, home.leader) for other in earlier if other.group in later):
                return False
            batch.before.setdefault(node, node.key)
            home.members.append(node)
            node.cluster = home
        for component in components:
            own.component.join(component)
        return True

    def _divide(self, seed: Node, batch: _Batch) -> set[Node]:
        """Divide the component of an image into groups, and return the component."""
        found, waiting = {seed}, [seed]
        while waiting:
            for other in self._graph.joined(waiting.pop()):
                if other not in found:
                    found.add(other)
                    waiting.append(other)
        last = max(node.rank for node in found)
        component = Component(len(found), last, any(node in self._graph.decisions for node in found))
        for members in partition(self._graph, found):
            cluster = Cluster(members, component)
            for node in members:
                batch.before.setdefault(node, node.group.leader.key)
                node.cluster = cluster
        return found
