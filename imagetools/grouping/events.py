"""What became of the groups in one batch of changes."""

from collections import defaultdict
from collections.abc import Mapping

from imagetools.grouping.describe import is_group
from imagetools.grouping.graph import Node, PairGraph
from imagetools.grouping.records import EventKind, GroupEvent, ImageKey


def events_of(
    graph: PairGraph, before: Mapping[Node, ImageKey | None], marked: set[Node], published: set[ImageKey]
) -> list[GroupEvent]:
    """Compare the groups with what they were; return the events by group id, and bring `published` up to date.

    before     of each image that may have moved: the id of the group that it was in, None if it was not there
    marked     images with another edge or decision
    published  ids of the groups that there were
    """
    touched = {node.group.leader.key for node in marked if node.place is not None}
    added, lost = defaultdict[ImageKey, list[Node]](list), defaultdict[ImageKey, list[Node]](list)
    for node, old in before.items():
        new = node.group.leader.key if node.place is not None else None
        if new == old:
            continue
        if old is not None:
            lost[old].append(node)
        if new is not None:
            added[new].append(node)
            # their links and doubtful edges lead to another group now
            touched.update(other.group.leader.key for other, _ in graph.related(node))
    touched |= added.keys() | lost.keys()
    there = {key for key in touched if key in published}
    published -= touched
    published |= {key for key in touched if _is_there(graph, key)}
    events = []
    for key in sorted(touched & (there | published)):
        came, left = _in_order(added[key]), _in_order(lost[key])
        origins = {old for node in came if (old := before[node]) is not None and old != key and old in there}
        kind, into = EventKind.CHANGED, None
        if key not in there:
            kind, came = EventKind.BORN, graph.nodes[key].group.members
        elif key not in published:
            into = _successor(graph, key, left, published)
            kind = EventKind.MERGED if _is_elsewhere(graph.nodes[key]) else EventKind.ENDED
        elif any(node.place is not None for node in left):
            kind = EventKind.SPLIT
        elif came:
            kind = EventKind.GROWN
        events.append(GroupEvent(kind, key, _keys(came), _keys(left), into, tuple(sorted(origins))))
    return events


def _is_there(graph: PairGraph, key: ImageKey) -> bool:
    node = graph.nodes[key]
    return node.place is not None and node.group.leader is node and is_group(graph, node.group)


def _is_elsewhere(node: Node) -> bool:
    return node.place is not None and node.group.leader is not node


def _successor(graph: PairGraph, key: ImageKey, left: list[Node], published: set[ImageKey]) -> ImageKey | None:
    """Return the group that the earliest image left of an ended group is in."""
    for node in (graph.nodes[key], *left):
        if node.place is not None and node.group.leader.key in published:
            return node.group.leader.key
    return None


def _in_order(nodes: list[Node]) -> list[Node]:
    """Return current images in the order of the log, then those that are gone."""
    return sorted(nodes, key=lambda node: (node.place is None, node.place or 0, node.key))


def _keys(nodes: list[Node]) -> tuple[ImageKey, ...]:
    return tuple(node.key for node in nodes)
