"""Records of groups and decisions for tests of those who read them."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from imagetools.grouping.records import GroupState
from schemas.group_records import GroupedImage, GroupRecord
from schemas.records import Duplicate, Duplicates

POINTS = ((0.1, 0.1, 0.2, 0.2), (0.9, 0.1, 0.8, 0.2), (0.9, 0.9, 0.8, 0.8), (0.1, 0.9, 0.2, 0.8))


def content_of(path: str, version: int = 0) -> bytes:
    """A content for a path; another for each version."""
    return hashlib.sha256(f"{path} {version}".encode()).digest()


def group_of(*paths: str, relations: Sequence[str] = (), content: bytes | None = None, **more: Any) -> GroupRecord:
    """An open group; the first image is the one to keep."""
    said = [*relations, *["same"] * len(paths)]
    members = tuple(
        GroupedImage(
            path,
            content or content_of(path),
            "identical" if n == 0 else said[n - 1],
            keep=n == 0,
            width=800 >> n,
            height=600 >> n,
            bytes=90_000 >> n,
            format="JPEG",
        )
        for n, path in enumerate(paths)
    )
    return GroupRecord(paths[0], GroupState.OPEN, members, len(members), reasons=("largest picture",), **more)


def alert_of(candidate: str, *neighbors: tuple[str, float], contents: Iterable[bytes] = ()) -> Duplicates:
    """An alert with evidence for each neighbor and its score."""
    known = dict(zip([candidate, *(path for path, _ in neighbors)], contents, strict=False))
    found = tuple(
        Duplicate(
            path,
            score,
            20,
            0.9,
            edit="resized to 50 %",
            points=POINTS,
            relation="same",
            content=known.get(path, content_of(path)),
        )
        for path, score in neighbors
    )
    now = datetime.now(UTC)
    return Duplicates(1, candidate, found, time=now, content=known.get(candidate, content_of(candidate)))
