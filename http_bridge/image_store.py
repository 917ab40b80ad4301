"""One row an image in a SQLite file: a view of four topics, at the offsets that the file holds."""

import fcntl
import logging
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from imagetools.errors import ConfigError, MessageError
from schemas.records import Duplicates, ImageNew, Verdict
from streams.kafka.follower import ConsumedMessage
from streams.kafka.messages import path_of_key
from streams.topics import DEAD_LETTERS, DUPLICATES, IMAGES_NEW, VERDICTS

log = logging.getLogger(__name__)

FILE = "images.sqlite"
LOCK = "lock"
VERSION = 2
"""Of the tables below; a file of another version is replaced, and filled from the topics."""

FOLLOWED = (IMAGES_NEW, VERDICTS, DUPLICATES, DEAD_LETTERS)
"""The topics that the file is a view of."""

TABLES = """
CREATE TABLE images (
    path TEXT PRIMARY KEY,
    announced INTEGER, request_id INTEGER, gone INTEGER,
    decided INTEGER, decided_id INTEGER, outcome TEXT, reason TEXT, similar TEXT,
    alerted INTEGER, alerted_id INTEGER, duplicated TEXT
) WITHOUT ROWID;
CREATE TABLE dead_letters (place INTEGER PRIMARY KEY, time INTEGER);
CREATE TABLE offsets (topic TEXT, partition INTEGER, next INTEGER, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE logs (topic TEXT PRIMARY KEY, log_id TEXT) WITHOUT ROWID;
"""
UPSERT_ANNOUNCED = """
INSERT INTO images (path, announced, request_id, gone) VALUES (?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET
announced = excluded.announced, request_id = excluded.request_id, gone = excluded.gone
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
SELECT announced, request_id, gone, decided, decided_id, outcome, reason, alerted, alerted_id, duplicated, similar
FROM images WHERE path = ?
"""


@dataclass(frozen=True)
class ImageRow:
    """The newest message of each kind about one image; times in milliseconds since 1970, None where none came.

    request_id, decided_id  None for a removal, and for an announcement that could not be read
    duplicated              [path, score, edit, relation] of each
    similar                 [path, relation, reason, score] of each
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


class ImageStore:
    """The file; one thread writes it, any thread reads it.

    dead_letters  how many the file holds
    damaged       a reader found the file damaged: call `recreate`
    """

    def __init__(self, folder: Path | None) -> None:
        """folder: None for one that `close` removes. ConfigError if it cannot be written."""
        self._scratch: str | None = None
        self._lock = threading.Lock()
        self._folder = self._lock_folder(folder)
        self._connections: list[sqlite3.Connection] = []
        self.dead_letters = 0
        self.damaged = False
        try:
            self._connect()
        except sqlite3.DatabaseError as exc:
            self.recreate(exc)

    def resume(self, log_ids: Mapping[str, str]) -> dict[tuple[str, int], int]:
        """Return the next offset of each partition; empty the file first if the topics have other ids than before."""
        if dict(self._write.execute("SELECT topic, log_id FROM logs")) != dict(log_ids):
            with self._write:
                for table in ("images", "dead_letters", "offsets", "logs"):
                    self._write.execute(f"DELETE FROM {table}")
                self._write.executemany("INSERT INTO logs VALUES (?, ?)", log_ids.items())
        self._count()
        return {
            (topic, n): offset for topic, n, offset in self._write.execute("SELECT topic, partition, next FROM offsets")
        }

    def take(self, batch: Iterable[ConsumedMessage]) -> list[str]:
        """Store messages and their offsets in one transaction; return the paths that were announced."""
        announced, decided, alerted, dead, offsets = [], [], [], [], {}
        for seen in batch:
            message, record = seen.message, seen.record
            time = message.timestamp()[1]
            offsets[message.topic(), message.partition()] = (message.offset() or 0) + 1
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
                gone = message.value() is None
                announced.append((path, time, record.request_id if isinstance(record, ImageNew) else None, gone))
        with self._write as connection:
            for statement, rows in ((UPSERT_ANNOUNCED, announced), (UPSERT_VERDICT, decided), (UPSERT_ALERT, alerted)):
                connection.executemany(statement, rows)
            added = connection.executemany("INSERT OR IGNORE INTO dead_letters VALUES (?, ?)", dead).rowcount
            connection.executemany(
                "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)",
                [(*partition, offset) for partition, offset in offsets.items()],
            )
        self.dead_letters += max(0, added)
        return [row[0] for row in announced]

    def row(self, path: str) -> ImageRow | None:
        """Return an image's row, if it has one. sqlite3.DatabaseError if the file is damaged."""
        try:
            with self._lock:
                row = self._read.execute(SELECT_ROW, (path,)).fetchone()
        except sqlite3.DatabaseError:
            self.damaged = True
            raise
        if row is None:
            return None
        return ImageRow(*row[:-2], *(msgspec.json.decode(listed) if listed else [] for listed in row[-2:]))

    def delete_before(self, time: int) -> None:
        """Delete what is older than `time`, milliseconds since 1970."""
        newest = "max(ifnull(announced, 0), ifnull(decided, 0), ifnull(alerted, 0))"
        with self._write as connection:
            connection.execute(f"DELETE FROM images WHERE {newest} < ?", (time,))
            connection.execute("DELETE FROM dead_letters WHERE time < ?", (time,))
        self._count()

    def recreate(self, exc: sqlite3.DatabaseError) -> None:
        """Replace a damaged file by an empty one."""
        log.warning("%s cannot be used (%s): it is filled again from the topics", self._folder / FILE, exc)
        self._disconnect()
        for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
            (self._folder / name).unlink(missing_ok=True)
        self.damaged = False
        self._connect()

    def close(self) -> None:
        """Close the file, and release its folder."""
        self._disconnect()
        self._folder_lock.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _lock_folder(self, folder: Path | None) -> Path:
        """Lock the folder; use a temporary one if another process has the lock."""
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._folder_lock = (folder / LOCK).open("w")
            except OSError as exc:
                raise ConfigError(f"BRIDGE_DIR is {folder}: {exc.strerror}") from exc
            try:
                fcntl.flock(self._folder_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return folder
            except OSError:
                self._folder_lock.close()
                log.warning("BRIDGE_DIR %s is another bridge's; this one reads the topics from the beginning", folder)
        self._scratch = tempfile.mkdtemp(prefix="imagetools-bridge-")
        self._folder_lock = (Path(self._scratch) / LOCK).open("w")
        return Path(self._scratch)

    def _connect(self) -> None:
        path = self._folder / FILE
        with closing(sqlite3.connect(path)) as first:
            if first.execute("PRAGMA user_version").fetchone() != (VERSION,):
                if first.execute("SELECT * FROM sqlite_master").fetchone():
                    raise sqlite3.DatabaseError("it has another version")
                first.executescript(f"PRAGMA journal_mode = WAL; {TABLES} PRAGMA user_version = {VERSION};")
        with self._lock:
            self._connections += [_connection(path), _connection(path)]
            self._write, self._read = self._connections
        self._count()

    def _disconnect(self) -> None:
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _count(self) -> None:
        (self.dead_letters,) = self._write.execute("SELECT count(*) FROM dead_letters").fetchone()


def _connection(path: Path) -> sqlite3.Connection:
    # one thread writes; any thread reads, with the lock
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _json(found: Sequence[tuple[str | float, ...]]) -> str:
    return msgspec.json.encode(found).decode()


def _path(seen: ConsumedMessage) -> str | None:
    try:
        return path_of_key(seen.message)
    except MessageError:
        return None
