"""Messages for the grouping stage, and the groups that its topic tells of."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from imagetools.grouping.records import Choice
from schemas.group_records import DecisionRecord, GroupRecord, ImageContent, decision_id
from schemas.records import Duplicate, Duplicates, Embedding

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)

Key = tuple[str, str]
"""An image: its path, and its content in hex."""


def content(name: str) -> bytes:
    """Return bytes in the place of a SHA-256."""
    return name.encode().ljust(32, b".")


def image(path: str, version: str = "") -> ImageContent:
    return ImageContent(path, content(version or path))


def key_of(found: Any) -> Key:
    return found.relative_path, found.content.hex()


def embedding(one: ImageContent) -> Embedding:
    return Embedding(1, one.relative_path, np.zeros(2, np.float32), "m:1:160", one.content)


def alert(one: ImageContent, *others: ImageContent, relation: str = "same", **more: Any) -> Duplicates:
    found = tuple(
        Duplicate(other.relative_path, 0.5, relation=relation, content=other.content, **more) for other in others
    )
    return Duplicates(1, one.relative_path, found, time=NOON, content=one.content)


def decision(choice: Choice, *images: ImageContent, keep: Sequence[str] = ()) -> DecisionRecord:
    return DecisionRecord(decision_id(images), choice, images, tuple(keep), when=NOON)


class GroupTable:
    """The groups by what their topic says, message by message; AssertionError where one does not follow."""

    def __init__(self) -> None:
        self.groups: dict[str, GroupRecord] = {}

    def take(self, path: str, record: Any, headers: Any) -> None:
        event = dict(headers)["event"].decode()
        if record is None:
            assert event in ("merged", "ended"), (path, event)
            del self.groups[path]
            return
        assert record.id == path == record.members[0].relative_path
        assert record.event == event
        assert (event == "born") == (path not in self.groups), (path, event)
        self.groups[path] = record
