"""Groups as the messages that say what became of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from imagetools.grouping.keep import FileFacts, Quality, suggest
from imagetools.grouping.records import Edge, EventKind, Group, GroupEvent, ImageKey
from imagetools.grouping.relations import Relation
from schemas.group_records import GroupEdge, GroupedImage, GroupLink, GroupRecord, SeenFile
from schemas.metadata import metadata_bytes
from streams.grouping.image_metadata import ImageMetadata
from streams.grouping.state import GroupingState
from streams.stage import Output
from streams.standing_decisions import content_of
from streams.topics import GROUPS, MAX_GROUP_BYTES

MAX_EDGES: Final = 64
"""Doubtful edges and linked groups of one record, as its schema promises."""

MAX_ORIGINS: Final = 64
"""Groups that the new members of one record come from."""

MEMBER_BYTES: Final = 80
"""Of a member in a record, besides its path and format, at most."""

MAX_METADATA_BYTES: Final = MAX_GROUP_BYTES // 2
"""Of the metadata of all members of one record, which comes on top of MAX_GROUP_BYTES."""

ENTRY_BYTES: Final = 4
"""The lengths of a name and a value in a record, at most."""

NOT_SEEN: Final = SeenFile(0, 0, 0, "")

Look = Callable[[ImageKey], SeenFile | None]
"""Returns what the file of an image says; None where it cannot be read."""


def outputs_of(
    events: Iterable[GroupEvent], state: GroupingState, look: Look, keep_order: Sequence[str]
) -> list[Output]:
    """Return a message for each event: first the groups that have ended, whose paths may lead others now.

    keep_order  as `suggest` takes it

    What `look` raises is passed on.
    """
    ended, there = [], []
    for event in events:
        headers = [("event", event.kind.encode())]
        if event.into is not None:
            headers.append(("into", event.into.path.encode()))
        group = state.grouping.group(event.group)
        if group is None:
            ended.append(Output(GROUPS, event.group.path, None, headers=tuple(headers)))
        else:
            record = record_of(group, event, state, look, keep_order)
            there.append(Output(GROUPS, event.group.path, record, headers=tuple(headers)))
    return [*ended, *there]


def record_of(
    group: Group, event: GroupEvent, state: GroupingState, look: Look, keep_order: Sequence[str]
) -> GroupRecord:
    """Return the record of a group. What `look` raises is passed on."""
    images = [member.image for member in group.members]
    looks = {image: found for image in images if (found := look(image)) is not None}
    chosen = state.decisions.chosen(images)
    kept, reasons = chosen, tuple[str, ...]()
    if not chosen and not group.blank and len(images) > 1:
        suggestion = suggest(images, _facts(images, looks, state), keep_order)
        kept, reasons = frozenset({suggestion.keep}), suggestion.reasons
    reference = next((image for image in images if image in kept), images[0])
    members = [
        _member(member.image, str(state.grouping.relation(member.image, reference)), looks, kept, member.decided)
        for member in group.members
    ]
    return GroupRecord(
        group.id.path,
        group.state,
        _with_metadata(_fitting(members), state.metadata),
        len(members),
        group.blank,
        bool(chosen),
        reasons,
        tuple(_edge(edge) for edge in group.doubtful[:MAX_EDGES]),
        tuple(GroupLink(link.group.path, _edge(link.edge)) for link in group.linked[:MAX_EDGES]),
        EventKind.CHANGED if event.kind in (EventKind.MERGED, EventKind.ENDED) else event.kind,
        tuple(origin.path for origin in event.origins[:MAX_ORIGINS]),
    )


def _member(
    image: ImageKey, relation: str, looks: Mapping[ImageKey, SeenFile], kept: frozenset[ImageKey], decided: bool
) -> GroupedImage:
    seen = looks.get(image, NOT_SEEN)
    content = bytes.fromhex(image.content)
    return GroupedImage(
        image.path, content, relation, image in kept, decided, seen.width, seen.height, seen.bytes, seen.format
    )


def _fitting(members: Sequence[GroupedImage]) -> tuple[GroupedImage, ...]:
    """Return as many members as fit into a record; a kept one that does not comes last."""
    room, listed = MAX_GROUP_BYTES, list[GroupedImage]()
    for member in members:
        room -= len(member.relative_path.encode()) + len(member.format) + MEMBER_BYTES
        if room < 0:
            return (*listed, *[one for one in members[len(listed) :] if one.keep][:1])
        listed.append(member)
    return tuple(listed)


def _with_metadata(members: Iterable[GroupedImage], known: ImageMetadata) -> tuple[GroupedImage, ...]:
    """Add metadata to the members, the earliest first, as long as there is room."""
    room, found = MAX_METADATA_BYTES, list[GroupedImage]()
    for member in members:
        metadata = known.of(member.relative_path)
        room -= metadata_bytes(metadata) + ENTRY_BYTES * len(metadata)
        found.append(replace(member, metadata=metadata) if metadata and room >= 0 else member)
    return tuple(found)


def _edge(edge: Edge) -> GroupEdge:
    return GroupEdge(content_of(edge.left), content_of(edge.right), str(edge.relation), edge.score)


def _facts(
    images: Sequence[ImageKey], looks: Mapping[ImageKey, SeenFile], state: GroupingState
) -> dict[ImageKey, FileFacts]:
    cropped, written_on = _marks(images, state)
    return {
        image: FileFacts(
            seen.width,
            seen.height,
            seen.bytes,
            seen.format,
            cropped=image in cropped,
            written_on=image in written_on,
            quality=Quality(seen.sharpness, seen.fineness, seen.step, seen.earlier, seen.colour),
        )
        for image in images
        for seen in (looks.get(image, NOT_SEEN),)
    }


def _marks(images: Sequence[ImageKey], state: GroupingState) -> tuple[set[ImageKey], set[ImageKey]]:
    """Return which images of a group are cropped, and which are framed or written on.

    Where an alert does not tell on which side of a pair a cover lies, it lies on the image of which all pairs have it,
    if a pair of others has none.
    """
    inside, cropped, framed = set(images), set[ImageKey](), set[ImageKey]()
    covered, plain = Counter[ImageKey](), Counter[ImageKey]()
    for image in images:
        for other in state.grouping.pairs(image):
            if other not in inside or other < image:
                continue
            marks, edge = state.marks(image, other), state.grouping.edge(image, other)
            if edge is not None and edge.relation is Relation.CROP:
                cropped.add(image)
            if edge is not None and edge.relation is Relation.CONTAINS:
                cropped.add(other)
            framed |= {one for one, has_frame in zip((image, other), marks.framed, strict=True) if has_frame}
            (covered if marks.covered else plain).update((image, other))
    return cropped, framed | {image for image in covered if plain and image not in plain}
