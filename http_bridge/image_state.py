"""The state of an announced image, from the newest messages about it."""

from datetime import UTC, datetime

from msgspec import Struct

from http_bridge.evidence import SimilarImage
from http_bridge.image_tables import ImageRow
from schemas.records import ImageNew, VerdictOutcome

MAX_CLOCK_SKEW_MS = 1000
"""How far a producer's clock may be ahead of a stage's."""

COMMIT_SPREAD_MS = 5000
"""A verdict and its alert are committed together, and may be read this far apart."""


class FoundDuplicate(Struct):
    """An image that the announced one duplicates; relation: what the announced one shows of it."""

    relative_path: str
    score: float
    edit: str
    relation: str


class ImageState(Struct):
    """The state of an image's newest announcement.

    state       waiting, clear, duplicate, dead_letter or removed
    request_id  of the announcement; null where it is not known, and for a removal
    announced   when; null where the topic no longer holds the announcement
    decided     when the verdict was reached; null where there is none
    duplicated  earlier images that show the same picture
    reason      of a dead letter
    similar     earlier images that are alike and no duplicates, at most 16
    metadata    of the announcement; empty where it is not known
    group       id of the group that the image is in; empty: in none. An image that is announced again with the same
                bytes is clear, whatever it duplicates: its group tells
    """

    relative_path: str
    state: str
    request_id: int | None = None
    announced: str | None = None
    decided: str | None = None
    duplicated: list[FoundDuplicate] = []
    reason: str = ""
    similar: list[SimilarImage] = []
    metadata: dict[str, str] = {}
    group: str = ""


class ImageStateAnswer(Struct):
    """The envelope of an image's state."""

    global_status: int
    error_message: str
    response: ImageState


def announced_state(path: str, announced: int, record: ImageNew | None) -> ImageState:
    """Return the state of an image that was announced just now, at `announced`, milliseconds since 1970.

    record  None: as removed
    """
    if record is None:
        return ImageState(path, "removed", announced=iso_time(announced))
    return ImageState(path, "waiting", record.request_id, iso_time(announced), metadata=dict(record.metadata))


def image_state(path: str, row: ImageRow, now: int) -> ImageState:
    """Combine the newest announcement, verdict and alert; `now` in milliseconds since 1970.

    A verdict belongs to the announcement with its request id, unless it is older. A duplicate waits for its alert.
    """
    if row.gone:
        return ImageState(path, "removed", announced=iso_time(row.announced))
    waiting = ImageState(path, "waiting", row.request_id, iso_time(row.announced), metadata=row.metadata)
    if not _is_decided(row):
        return waiting
    found: list[FoundDuplicate] = []
    if row.outcome == VerdictOutcome.DUPLICATE:
        if row.alerted_id == row.decided_id and abs((row.alerted or 0) - (row.decided or 0)) < COMMIT_SPREAD_MS:
            found = [FoundDuplicate(*one) for one in row.duplicated]
        elif now - (row.decided or 0) < COMMIT_SPREAD_MS:
            return waiting
    times = iso_time(row.announced), iso_time(row.decided)
    similar = [SimilarImage(*one) for one in row.similar]
    return ImageState(path, row.outcome or "", row.decided_id, *times, found, row.reason or "", similar, row.metadata)


def _is_decided(row: ImageRow) -> bool:
    if row.decided is None:
        return False
    if row.announced is None:
        return True
    return row.decided_id == row.request_id and row.decided >= row.announced - MAX_CLOCK_SKEW_MS


def iso_time(milliseconds: int | None) -> str | None:
    """Format milliseconds since 1970 as ISO 8601, UTC."""
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
