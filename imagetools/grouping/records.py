"""What goes into a grouping, and what comes out of it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from imagetools.grouping.relations import Relation


class ImageKey(NamedTuple):
    """An image at one content.

    content  what is equal for equal bytes and for no others, such as their SHA-256
    """

    path: str
    content: str


@dataclass(frozen=True, slots=True)
class Placed:
    """A path has new bytes: the image is new, or it has changed.

    place  where the log says so; a path that has these bytes already keeps its place
    """

    path: str
    content: str
    place: int


@dataclass(frozen=True, slots=True)
class Gone:
    """A path has no image any more."""

    path: str


@dataclass(frozen=True, slots=True)
class Edge:
    """A verified pair.

    relation  of left to right
    score     of the matcher, 0 to 1
    """

    left: ImageKey
    right: ImageKey
    relation: Relation
    score: float = 1.0


class Choice(StrEnum):
    """A person's word on a pair."""

    DUPLICATE = "duplicate"
    NOT_DUPLICATE = "not_duplicate"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's word on a pair at two contents; a later one replaces it."""

    left: ImageKey
    right: ImageKey
    choice: Choice


@dataclass(frozen=True, slots=True)
class Undone:
    """A person takes back the decision on a pair."""

    left: ImageKey
    right: ImageKey


GroupingChange = Placed | Gone | Edge | Decision | Undone

Compare = Callable[[ImageKey, ImageKey], Relation | None]
"""Looks at two images; returns what the first is to the second, and always the same for the same two.

None where it cannot look now: the images count as different pictures until it is asked again.
"""


class GroupState(StrEnum):
    """Whether a group waits for a person."""

    OPEN = "open"
    DECIDED = "decided"


@dataclass(frozen=True, slots=True)
class GroupMember:
    """An image of a group.

    relation  to the group's earliest image
    decided   people's words connect it with the earliest image; for that one: with any other
    """

    image: ImageKey
    relation: Relation
    decided: bool = False


@dataclass(frozen=True, slots=True)
class LinkedGroup:
    """Another group that shows part of the same.

    group     its id
    relation  of this group to the other, by their strongest edge
    edge      that edge, this group's image on the left
    """

    group: ImageKey
    relation: Relation
    edge: Edge


@dataclass(frozen=True, slots=True)
class Group:
    """Images of one picture.

    id        its earliest image
    blank     the members are blank pictures, of which none is another's copy
    members   in the order of the log, the earliest first
    doubtful  edges between this group and others that say "one picture", which the earliest images contradict; this
              group's image on the left
    linked    groups that show part of the same
    """

    id: ImageKey
    state: GroupState
    blank: bool
    members: tuple[GroupMember, ...]
    doubtful: tuple[Edge, ...]
    linked: tuple[LinkedGroup, ...]


class EventKind(StrEnum):
    """What became of a group."""

    BORN = "born"
    GROWN = "grown"
    CHANGED = "changed"
    SPLIT = "split"
    MERGED = "merged"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class GroupEvent:
    """One change of one group.

    kind     born: there was no group of this id. grown: it has new members. split: images left it and are still there.
             merged: its earliest image is now in another group. ended: too little is left of it. changed: anything
             else
    group    the group's id
    added    images that came
    lost     images that left or are gone
    into     where the earliest image that is left of a group that has ended is now
    origins  groups that the new members come from
    """

    kind: EventKind
    group: ImageKey
    added: tuple[ImageKey, ...] = ()
    lost: tuple[ImageKey, ...] = ()
    into: ImageKey | None = None
    origins: tuple[ImageKey, ...] = ()
