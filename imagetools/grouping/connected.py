"""Images that pairs connect, directly or through others, whatever their pictures show."""

from collections.abc import Iterable

from imagetools.grouping.grouping import Grouping
from imagetools.grouping.records import Edge, ImageKey, Placed
from imagetools.grouping.relations import Relation


class ConnectedImages:
    """The groups of images in which every connected one counts as the same picture.

    sets  of two images or more, the largest first; otherwise, and inside, in the order in which pairs name them
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Take pairs of paths."""
        edges = [Edge(ImageKey(one, ""), ImageKey(two, ""), Relation.SAME, 1.0) for one, two in pairs if one != two]
        images = dict.fromkeys(image for edge in edges for image in (edge.left, edge.right))
        grouping = Grouping(lambda _left, _right: Relation.SAME)
        placed = [Placed(*image, place) for place, image in enumerate(images)]
        grouping.apply([*placed, *edges])
        found = [[member.image.path for member in group.members] for group in grouping.groups()]
        self.sets = sorted(found, key=len, reverse=True)
        self._number = {path: number for number, paths in enumerate(self.sets) for path in paths}

    def connected(self, one: str, two: str) -> bool:
        """Return whether pairs connect the two."""
        return one == two or self._number.get(one, one) == self._number.get(two, two)
