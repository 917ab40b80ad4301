"""What two images are to each other, and which of it makes a group."""

from enum import StrEnum
from typing import Final


class Relation(StrEnum):
    """What one image is to another, read from the first to the second: "this is a crop of that"."""

    IDENTICAL = "identical"
    SAME = "same"
    BLANK = "blank"
    CROP = "crop"
    CONTAINS = "contains"
    OVERLAP = "overlap"
    NONE = ""

    @property
    def turned(self) -> "Relation":
        """The relation read from the second image to the first."""
        return _TURNED.get(self, self)


JOINING: Final = frozenset({Relation.IDENTICAL, Relation.SAME, Relation.BLANK})
"""Relations of whole pictures: they join images into one group. The others link groups."""

STRENGTH: Final = {relation: len(Relation) - place for place, relation in enumerate(Relation)}
"""Of two verdicts on one pair, the one whose relation is stronger counts."""

_TURNED: Final = {Relation.CROP: Relation.CONTAINS, Relation.CONTAINS: Relation.CROP}
