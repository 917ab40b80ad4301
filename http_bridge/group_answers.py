"""Groups and decisions as HTTP's answers hold them, and as the view stores them."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from http_bridge.contracts import UnitInterval, clip
from http_bridge.evidence import Point, Region
from imagetools.grouping.records import Choice, GroupState
from imagetools.grouping.relations import STRENGTH, Relation
from schemas.alert_json import rounded
from schemas.group_records import DecisionRecord, GroupEdge, GroupRecord, ImageContent
from schemas.records import Duplicate

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
"""SHA-256 of a file's bytes, in hex."""


class DecidedImage(Struct):
    """An image at one content."""

    relative_path: str
    content: Digest


class DecisionAnswer(Struct):
    """A person's word, or that one was taken back.

    number    of all decisions, in the order of their topic
    id        equal for decisions on the same images
    decision  null: undone
    keep      paths of the images to keep; all: every image may stay
    group     id of the group that was decided on; empty for a pair
    when      ISO 8601
    in_force  no later decision on the same images has replaced it, and nobody has undone it
    """

    number: int
    id: str
    decision: Choice | None
    images: list[DecidedImage]
    keep: list[str]
    group: str
    who: str
    when: str
    note: str
    in_force: bool = True


class MemberAnswer(Struct):
    """An image of a group.

    relation       to the one to keep, or to the earliest where none is suggested
    keep           chosen by a person or, where nobody has chosen, suggested
    decided        a person's word connects it with others of the group
    width, height  of the picture, pixels; 0 where it is not known
    bytes          of the file; 0 where it is not known
    modified       when the file was changed last, ISO 8601; null where the bridge does not see it
    metadata       of its newest announcement
    """

    relative_path: str
    content: Digest
    relation: str
    keep: bool
    decided: bool
    width: int
    height: int
    bytes: int
    format: str
    modified: str | None = None
    metadata: dict[str, str] = {}


class EdgeAnswer(Struct):
    """A verified pair that leads out of a group; relation: of left to right."""

    left: DecidedImage
    right: DecidedImage
    relation: str
    score: UnitInterval


class LinkAnswer(Struct):
    """Another group that shows part of the same, and the strongest pair between the two."""

    group: str
    edge: EdgeAnswer


class PairAnswer(Struct):
    """A verified pair, with its evidence.

    relation  of left to right
    points    at most 64 pairs of matching points: x, y in left, x, y in right, each in [0, 1]
    regions   at most 64 boxes that show something else: left, top, right, bottom in left, then in right
    """

    left: str
    right: str
    score: UnitInterval
    relation: str
    edit: str
    inliers: int
    agreement: float
    points: list[Point]
    regions: list[Region]


class GroupContents(Struct):
    """What a group's record says besides its summary."""

    members: list[MemberAnswer]
    reasons: list[str]
    doubtful: list[EdgeAnswer]
    linked: list[LinkAnswer]
    origins: list[str]


class GroupSummary(Struct):
    """A group in a list.

    state     open or decided; of one image that is linked with other groups, and with none in doubt: open, though it
              waits for nobody
    relation  the weakest that a member has: identical means that all are
    score     of the image that is least certain: its best pair with an earlier one; null where no alert tells
    keep      the one to keep: chosen by a person or, where nobody has chosen, suggested
    chosen    a person has chosen
    later     a person put it off, and nothing has come since
    event     what became of it last: born, grown, split or changed
    time      when; ISO 8601
    """

    id: str
    state: GroupState
    relation: str
    score: UnitInterval | None
    member_count: int
    blank: bool
    chosen: bool
    keep: str
    later: bool
    event: str
    time: str


class GroupDetail(GroupSummary):
    """A group with all that is known of it.

    members    the earliest first, at most 500
    reasons    for the suggestion of the one to keep
    doubtful   pairs that say one picture, which the groups' earliest images contradict
    linked     groups that show part of the same
    beyond     images of other groups that doubtful and linked name, with their relation in their own groups
    pairs      verified pairs inside, the surest first, at most 200, then those of doubtful and linked
    decisions  on two or more of its images at their contents, the newest first, at most 100
    newest     number of the newest of them; -1 where there is none. Send it as `expected` with a decision
    """

    members: list[MemberAnswer]
    reasons: list[str]
    doubtful: list[EdgeAnswer]
    linked: list[LinkAnswer]
    beyond: list[MemberAnswer]
    pairs: list[PairAnswer]
    decisions: list[DecisionAnswer]
    newest: int


class GroupEventAnswer(Struct):
    """What became of a group, as the stream of events holds it.

    event    born, grown, split, changed, merged or ended
    into     of a group that was merged: the group that its earliest image is in now
    origins  groups that its new images come from
    """

    id: str
    event: str
    into: str
    origins: list[str]
    state: str
    member_count: int
    time: str


def weakest_relation(record: GroupRecord) -> str:
    """Return the weakest relation that a member has."""
    if record.blank:
        return str(Relation.BLANK)
    return min((one.relation for one in record.members), key=_strength, default=str(Relation.IDENTICAL))


def kept_path(record: GroupRecord) -> str:
    """Return the first member to keep; empty where there is none."""
    return next((one.relative_path for one in record.members if one.keep), "")


def group_contents(record: GroupRecord) -> GroupContents:
    """Return what the view stores of a group's record."""
    return GroupContents(
        [
            MemberAnswer(
                one.relative_path,
                one.content.hex(),
                one.relation,
                one.keep,
                one.decided,
                one.width,
                one.height,
                one.bytes,
                one.format,
                metadata=dict(one.metadata),
            )
            for one in record.members
        ],
        list(record.reasons),
        [_edge(one) for one in record.doubtful],
        [LinkAnswer(one.group, _edge(one.edge)) for one in record.linked],
        list(record.origins),
    )


def pair_answer(candidate: str, found: Duplicate) -> PairAnswer:
    """Return what the view stores of a pair of an alert: the candidate on the left."""
    return PairAnswer(
        candidate,
        found.relative_path,
        clip(round(found.score, 4)),
        found.relation,
        found.edit,
        found.inliers,
        round(found.agreement, 4),
        rounded(found.points),
        rounded(found.regions),
    )


def decision_answer(number: int, key: str, record: DecisionRecord) -> DecisionAnswer:
    """Return a decision as answers hold it."""
    return DecisionAnswer(
        number,
        key,
        record.decision,
        decided_images(record.images),
        list(record.keep),
        record.group,
        record.who,
        record.when.isoformat(timespec="milliseconds"),
        record.note,
    )


def decided_images(images: Sequence[ImageContent]) -> list[DecidedImage]:
    """Return images as answers hold them."""
    return [DecidedImage(one.relative_path, one.content.hex()) for one in images]


def _strength(relation: str) -> int:
    return next((strength for known, strength in STRENGTH.items() if known == relation), 0)


def _edge(edge: GroupEdge) -> EdgeAnswer:
    left, right = decided_images([edge.left, edge.right])
    return EdgeAnswer(left, right, edge.relation, clip(edge.score))
