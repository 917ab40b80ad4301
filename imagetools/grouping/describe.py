"""Describe a cluster as a group."""

from imagetools.grouping.graph import Cluster, Finding, Node, PairGraph
from imagetools.grouping.records import (
    Choice,
    Edge,
    Group,
    GroupMember,
    GroupState,
    LinkedGroup,
)
from imagetools.grouping.relations import JOINING, STRENGTH, Relation


def is_group(graph: PairGraph, cluster: Cluster) -> bool:
    """Return whether there is anything to say of a cluster: two images, or an edge of its only one."""
    if len(cluster.members) > 1:
        return True
    return bool(graph.joined(cluster.leader)) or any(True for _ in graph.related(cluster.leader))


def describe(graph: PairGraph, cluster: Cluster) -> Group:
    """Return a cluster as the record of a group."""
    doubtful, linked, blank = [], dict[Cluster, LinkedGroup](), False
    for node in cluster.members:
        for other, finding in graph.related(node):
            inside, joins = other.cluster is cluster, finding.relation in JOINING
            if inside:
                blank = blank or finding.relation is Relation.BLANK
            elif joins or graph.choice(node, other) is Choice.DUPLICATE:
                doubtful.append(_edge(node, other, finding))
            else:
                _keep_stronger(linked, node, other, finding)
        doubtful += _refused(graph, node, cluster)
    doubtful.sort(key=_order)
    relations = [_to_leader(graph, node) for node in cluster.members]
    blank = blank or Relation.BLANK in relations
    decided = _decided(graph, cluster)
    return Group(
        id=cluster.leader.key,
        state=GroupState.DECIDED if len(decided) == len(cluster.members) and not doubtful else GroupState.OPEN,
        blank=blank,
        members=tuple(
            GroupMember(node.key, relation, node in decided)
            for node, relation in zip(cluster.members, relations, strict=True)
        ),
        doubtful=tuple(doubtful),
        linked=tuple(sorted(linked.values(), key=lambda link: link.group)),
    )


def relation_between(graph: PairGraph, node: Node, other: Node) -> Relation:
    """Return what one member of a group is to another."""
    if node is other:
        return Relation.IDENTICAL
    leader = node.group.leader
    if other is leader:
        return _to_leader(graph, node)
    if node is leader:
        return _to_leader(graph, other).turned
    told = graph.told(node, other)
    if told:
        return told
    by_leader = {_to_leader(graph, node), _to_leader(graph, other)}
    if by_leader == {Relation.IDENTICAL}:
        return Relation.IDENTICAL
    return Relation.BLANK if Relation.BLANK in by_leader else Relation.SAME


def _to_leader(graph: PairGraph, node: Node) -> Relation:
    """Return what a member is to the earliest image: what a person's word alone joins is the same."""
    leader = node.group.leader
    if node is leader:
        return Relation.IDENTICAL
    relation = graph.told(node, leader)
    # where people's words join images, some comparisons may not be needed: none counts, so that it does not matter
    # which were made before
    if relation is None and not node.group.component.decided:
        relation = graph.answer(node, leader)
    return relation or Relation.SAME


def _keep_stronger(linked: dict[Cluster, LinkedGroup], node: Node, other: Node, finding: Finding) -> None:
    link = LinkedGroup(other.group.leader.key, finding.relation, _edge(node, other, finding))
    known = linked.get(other.group)
    if known is None or _link_order(link) < _link_order(known):
        linked[other.group] = link


def _link_order(link: LinkedGroup) -> tuple[int, float, tuple[str, ...]]:
    return -STRENGTH[link.relation], -link.edge.score, _order(link.edge)


def _order(edge: Edge) -> tuple[str, ...]:
    return (*edge.left, *edge.right)


def _edge(node: Node, other: Node, finding: Finding) -> Edge:
    return Edge(node.key, other.key, finding.relation, finding.score)


def _refused(graph: PairGraph, node: Node, cluster: Cluster) -> list[Edge]:
    """Return the pairs without an edge that a person called duplicates, against another person's word."""
    duplicates = graph.decided(node, Choice.DUPLICATE)
    apart = (other for other in duplicates if other.place is not None and other.cluster is not cluster)
    return [Edge(node.key, other.key, Relation.NONE, 0.0) for other in apart if other not in node.edges]


def _decided(graph: PairGraph, cluster: Cluster) -> set[Node]:
    """Return the members that people's words alone connect with the leader, and the leader if there are any."""
    reached, waiting = {cluster.leader}, [cluster.leader]
    while waiting:
        for other in graph.decided(waiting.pop(), Choice.DUPLICATE):
            if other.cluster is cluster and other not in reached:
                reached.add(other)
                waiting.append(other)
    return reached if len(reached) > 1 else set()
