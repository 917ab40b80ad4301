"""One row an image: the newest announcement, verdict and alert of each, and the number of dead letters."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from imagetools.errors import MessageError
from schemas.records import Duplicates, ImageNew, Verdict
from streams.kafka.follower import ConsumedMessage
from streams.kafka.messages import path_of_key
from streams.topics import DEAD_LETTERS, DUPLICATES, IMAGES_NEW, VERDICTS

TOPICS = (IMAGES_NEW, VERDICTS, DUPLICATES, DEAD_LETTERS)

TABLES = """
CREATE TABLE images (
    path TEXT PRIMARY KEY,
    announced INTEGER, request_id INTEGER, gone INTEGER, metadata TEXT,
    decided INTEGER, decided_id INTEGER, outcome TEXT, reason TEXT, similar TEXT,
    alerted INTEGER, alerted_id INTEGER, duplicated TEXT
) WITHOUT ROWID;
CREATE TABLE dead_letters (place INTEGER PRIMARY KEY, time INTEGER);
"""
UPSERT_ANNOUNCED = """
INSERT INTO images (path, announced, request_id, gone, metadata) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET announced = excluded.announced, request_id = excluded.request_id,
gone = excluded.gone, metadata = excluded.metadata
"""
UPSERT_VERDICT = """
INSERT INTO images (path, decided, decided_id, outcome, reason, similar) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET decided = excluded.decided, decided_id = excluded.decided_id,
outcome = excluded.outcome, reason = excluded.reason, similar = excluded.similar
"""
UPSERT_ALERT = """
INSERT INTO images (path, alerted, alerted_id, duplicated) VALUES (?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET
alerted = excluded.alerted, alerted_id = excluded.alerted_id, duplicated = excluded.duplicated
"""
SELECT_ROW = """
SELECT announced, request_id, gone, decided, decided_id, outcome, reason, alerted, alerted_id, duplicated, similar,
metadata FROM images WHERE path = ?
"""


@dataclass(frozen=True)
class ImageRow:
    """The newest message of each kind about one image; times in milliseconds since 1970, None where none came.

    request_id, decided_id  None for a removal, and for an announcement that could not be read
    duplicated              [path, score, edit, relation] of each
    similar                 [path, relation, reason, score] of each
    metadata                of the announcement
    """

    announced: int | None
    request_id: int | None
    gone: int | None
    decided: int | None
    decided_id: int | None
    outcome: str | None
    reason: str | None
    alerted: int | None
    alerted_id: int | None
    duplicated: list[tuple[str, float, str, str]]
    similar: list[tuple[str, str, str, float]]
    metadata: dict[str, str]


class ImageTables:
    """The part of the view that is about images.

    dead_letters  how many messages were set aside, as far back as the topic goes
    announcing    the bridge's own announcements that have not been read yet, by path, with their times; None: a removal
    """

    topics = TOPICS
    tables = TABLES

    def __init__(self) -> None:
        self.dead_letters = 0
        self.announcing: dict[str, tuple[ImageNew | None, int]] = {}

    def load(self, connection: sqlite3.Connection) -> None:
        """Count the dead letters."""
        (self.dead_letters,) = connection.execute("SELECT count(*) FROM dead_letters").fetchone()

    def take(self, connection: sqlite3.Connection, batch: Sequence[ConsumedMessage]) -> None:
        """Store messages."""
        announced, decided, alerted, dead = [], [], [], []
        for seen in batch:
            message, record = seen.message, seen.record
            time = message.timestamp()[1]
            if seen.topic is DEAD_LETTERS:
                dead.append((message.offset(), time))
            elif isinstance(record, Verdict):
                alike = [(one.relative_path, one.relation, one.reason, round(one.score, 4)) for one in record.similar]
                row = (record.relative_path, time, record.request_id, record.outcome.value, record.reason)
                decided.append((*row, _json(alike)))
            elif isinstance(record, Duplicates):
                found = [(one.relative_path, round(one.score, 4), one.edit, one.relation) for one in record.duplicated]
                alerted.append((record.candidate, time, record.request_id, _json(found)))
            elif seen.topic is IMAGES_NEW and (path := _path(seen)) is not None:
                gone, number, metadata = message.value() is None, None, None
                if isinstance(record, ImageNew):
                    number, metadata = record.request_id, _json(record.metadata) if record.metadata else None
                announced.append((path, time, number, gone, metadata))
        for statement, rows in ((UPSERT_ANNOUNCED, announced), (UPSERT_VERDICT, decided), (UPSERT_ALERT, alerted)):
            connection.executemany(statement, rows)
        connection.executemany("INSERT OR IGNORE INTO dead_letters VALUES (?, ?)", dead)

    def committed(self, batch: Sequence[ConsumedMessage], *, live: bool) -> None:
        """Count the dead letters, and forget the bridge's own announcements."""
        for seen in batch:
            if seen.topic is DEAD_LETTERS:
                self.dead_letters += 1
            elif seen.topic is IMAGES_NEW and (path := _path(seen)) is not None:
                self.announcing.pop(path, None)

    def delete_before(self, connection: sqlite3.Connection, time: int) -> None:
        """Delete what is older than `time`, milliseconds since 1970."""
        newest = "max(ifnull(announced, 0), ifnull(decided, 0), ifnull(alerted, 0))"
        connection.execute(f"DELETE FROM images WHERE {newest} < ?", (time,))
        connection.execute("DELETE FROM dead_letters WHERE time < ?", (time,))


def image_row(found: tuple[Any, ...]) -> ImageRow:
    """Return what SELECT_ROW finds."""
    *row, duplicated, similar, metadata = found
    row += [msgspec.json.decode(listed) if listed else [] for listed in (duplicated, similar)]
    row.append(msgspec.json.decode(metadata) if metadata else {})
    return ImageRow(*row)


def _json(found: Sequence[tuple[str | float, ...]] | Mapping[str, str]) -> str:
    return msgspec.json.encode(found).decode()


def _path(seen: ConsumedMessage) -> str | None:
    try:
        return path_of_key(seen.message)
    except MessageError:
        return None
