"""The records of groups and decisions; a part of `schemas.records`, which describes the whole."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from imagetools.grouping.records import Choice, EventKind, GroupState


@dataclass(frozen=True, slots=True, order=True)
class ImageContent:
    """An image at one content, the SHA-256 of its bytes."""

    relative_path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class GroupedImage:
    """An image of a group."""

    relative_path: str
    content: bytes
    relation: str
    keep: bool = False
    decided: bool = False
    width: int = 0
    height: int = 0
    bytes: int = 0
    format: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupEdge:
    """A verified pair that leads out of a group."""

    left: ImageContent
    right: ImageContent
    relation: str
    score: float


@dataclass(frozen=True, slots=True)
class GroupLink:
    """Another group that shows part of the same."""

    group: str
    edge: GroupEdge


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """groups: images of one picture."""

    id: str
    state: GroupState
    members: tuple[GroupedImage, ...]
    member_count: int
    blank: bool = False
    chosen: bool = False
    reasons: tuple[str, ...] = ()
    doubtful: tuple[GroupEdge, ...] = ()
    linked: tuple[GroupLink, ...] = ()
    event: EventKind = EventKind.CHANGED
    origins: tuple[str, ...] = ()
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def waits(self) -> bool:
        """Whether it waits for a person; a single image does so only where it is in doubt which group it belongs to."""
        return self.state is GroupState.OPEN and (self.member_count > 1 or bool(self.doubtful))


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """decisions: a person's word on images at their contents."""

    id: str
    decision: Choice
    images: tuple[ImageContent, ...]
    keep: tuple[str, ...] = ()
    group: str = ""
    who: str = ""
    when: datetime = field(default_factory=lambda: datetime.now(UTC))
    note: str = ""


def decision_id(images: Iterable[ImageContent]) -> str:
    """Return the id of a decision on these images, so that the next one on the same images replaces it."""
    ordered = sorted(images)
    return hashlib.sha256(b"".join(i.relative_path.encode() + b"\0" + i.content for i in ordered)).hexdigest()


class FactKind(StrEnum):
    """What a fact of the grouping stage is about."""

    IMAGE = "image"
    EDGE = "edge"
    ANSWER = "answer"
    DECISION = "decision"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class SeenFile:
    """What an image's file says."""

    width: int
    height: int
    bytes: int
    format: str
    sharpness: float | None = None
    fineness: float | None = None
    step: float | None = None
    earlier: float | None = None
    colour: float | None = None


@dataclass(frozen=True, slots=True)
class GroupingFact:
    """grouping.state: one thing that the grouping stage knows."""

    id: str
    kind: FactKind
    images: tuple[ImageContent, ...] = ()
    place: int = 0
    announced: int = 0
    source: int = -1
    relation: str = ""
    score: float = 0.0
    framed: tuple[bool, ...] = ()
    covered: bool = False
    decision: DecisionRecord | None = None
    look: SeenFile | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    silent: bool | None = None
