"""What is known of each image, in one SQLite file: a view of four topics at the offsets that stand in it."""

import fcntl
import logging
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from imagetools.errors import ConfigError, MessageError
from schemas.records import Duplicates, ImageNew, Verdict
from streams.kafka.follower import Seen
from streams.kafka.messages import path_of_key
from streams.topics import DEAD_LETTERS, DUPLICATES, IMAGES_NEW, VERDICTS

log = logging.getLogger(__name__)

FILE = "images.sqlite"
VERSION = 1
"""Of the tables below; a file of another version is made again from the topics."""

TABLES = """
CREATE TABLE images (
    path TEXT PRIMARY KEY,
    announced INTEGER, request_id INTEGER, gone INTEGER,
    decided INTEGER, decided_id INTEGER, outcome TEXT, reason TEXT,
    alerted INTEGER, alerted_id INTEGER, duplicated TEXT
) WITHOUT ROWID;
CREATE TABLE dead_letters (place INTEGER PRIMARY KEY, time INTEGER);
CREATE TABLE offsets (topic TEXT, partition INTEGER, next INTEGER, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE logs (topic TEXT PRIMARY KEY, log_id TEXT) WITHOUT ROWID;
"""
ANNOUNCED = """
INSERT INTO images (path, announced, request_id, gone) VALUES (?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET
announced = excluded.announced, request_id = excluded.request_id, gone = excluded.gone
"""
DECIDED = """
INSERT INTO images (path, decided, decided_id, outcome, reason) VALUES (?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET
decided = excluded.decided, decided_id = excluded.decided_id, outcome = excluded.outcome, reason = excluded.reason
"""
ALERTED = """
INSERT INTO images (path, alerted, alerted_id, duplicated) VALUES (?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET
alerted = excluded.alerted, alerted_id = excluded.alerted_id, duplicated = excluded.duplicated
"""
KNOWN = """
SELECT announced, request_id, gone, decided, decided_id, outcome, reason, alerted, alerted_id, duplicated
FROM images WHERE path = ?
"""


@dataclass(frozen=True)
class Known:
    """The newest of each kind of message about one image; times in milliseconds since 1970, None where none came.

    request_id, decided_id  None of a removal, and of what could not be read
    duplicated              [path, score, edit] of each
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
    duplicated: list[tuple[str, float, str]]


class ImageStore:
    """The file, written by one thread and read by any.

    dead_letters  how many there are
    damaged       a reader has found it so: `renew` is due
    """

    def __init__(self, folder: Path | None) -> None:
        """None: a folder that is removed by `close`. ConfigError where the folder cannot be written."""
        self._scratch: str | None = None
        self._lock = threading.Lock()
        self._folder = self._own(folder)
        self._connections: list[sqlite3.Connection] = []
        self.dead_letters = 0
        self.damaged = False
        try:
            self._connect()
        except sqlite3.DatabaseError as exc:
            self.renew(exc)

    def begin(self, logs: Mapping[str, str]) -> dict[tuple[str, int], int]:
        """Where to go on in each partition, for these topics' ids; with others than before, everything is forgotten."""
        if dict(self._write.execute("SELECT topic, log_id FROM logs")) != dict(logs):
            with self._write:
                for table in ("images", "dead_letters", "offsets", "logs"):
                    self._write.execute(f"DELETE FROM {table}")
                self._write.executemany("INSERT INTO logs VALUES (?, ?)", logs.items())
        self._count()
        return {(topic, n): at for topic, n, at in self._write.execute("SELECT topic, partition, next FROM offsets")}

    def take(self, batch: Iterable[Seen]) -> list[str]:
        """Take messages and their offsets in one transaction; the paths that were announced."""
        announced, decided, alerted, dead, offsets = [], [], [], [], {}
        for seen in batch:
            message, record = seen.message, seen.record
            time = message.timestamp()[1]
            offsets[message.topic(), message.partition()] = (message.offset() or 0) + 1
            if seen.topic is DEAD_LETTERS:
                dead.append((message.offset(), time))
            elif isinstance(record, Verdict):
                row = (record.relative_path, time, record.request_id, record.outcome.value, record.reason)
                decided.append(row)
            elif isinstance(record, Duplicates):
                found = [(one.relative_path, round(one.score, 4), one.edit) for one in record.duplicated]
                alerted.append((record.candidate, time, record.request_id, msgspec.json.encode(found).decode()))
            elif seen.topic is IMAGES_NEW and (path := _path(seen)) is not None:
                gone = message.value() is None
                announced.append((path, time, record.request_id if isinstance(record, ImageNew) else None, gone))
        with self._write as connection:
            for statement, rows in ((ANNOUNCED, announced), (DECIDED, decided), (ALERTED, alerted)):
                connection.executemany(statement, rows)
            more = connection.executemany("INSERT OR IGNORE INTO dead_letters VALUES (?, ?)", dead).rowcount
            connection.executemany(
                "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)", [(*place, at) for place, at in offsets.items()]
            )
        self.dead_letters += max(0, more)
        return [row[0] for row in announced]

    def known(self, path: str) -> Known | None:
        """What is known of an image. sqlite3.DatabaseError where the file is damaged."""
        try:
            with self._lock:
                row = self._read.execute(KNOWN, (path,)).fetchone()
        except sqlite3.DatabaseError:
            self.damaged = True
            raise
        if row is None:
            return None
        return Known(*[*row[:-1], msgspec.json.decode(row[-1]) if row[-1] else []])

    def forget(self, before: int) -> None:
        """Let go of what is older than that time, milliseconds since 1970."""
        newest = "max(ifnull(announced, 0), ifnull(decided, 0), ifnull(alerted, 0))"
        with self._write as connection:
            connection.execute(f"DELETE FROM images WHERE {newest} < ?", (before,))
            connection.execute("DELETE FROM dead_letters WHERE time < ?", (before,))
        self._count()

    def renew(self, exc: sqlite3.DatabaseError) -> None:
        """Put an empty file in place of a damaged one."""
        log.warning("%s cannot be used (%s): it is made again from the topics", self._folder / FILE, exc)
        self._disconnect()
        for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
            (self._folder / name).unlink(missing_ok=True)
        self.damaged = False
        self._connect()

    def close(self) -> None:
        """Let go of the file."""
        self._disconnect()
        self._own_lock.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _own(self, folder: Path | None) -> Path:
        """The folder, of which no other process has the lock."""
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._own_lock = (folder / "lock").open("w")
            except OSError as exc:
                raise ConfigError(f"BRIDGE_DIR is {folder}: {exc.strerror}") from exc
            try:
                fcntl.flock(self._own_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return folder
            except OSError:
                self._own_lock.close()
                log.warning("BRIDGE_DIR %s is another bridge's: this one reads the topics from their beginning", folder)
        self._scratch = tempfile.mkdtemp(prefix="imagetools-bridge-")
        self._own_lock = (Path(self._scratch) / "lock").open("w")
        return Path(self._scratch)

    def _connect(self) -> None:
        path = self._folder / FILE
        with closing(sqlite3.connect(path)) as first:
            if first.execute("PRAGMA user_version").fetchone() != (VERSION,):
                if first.execute("SELECT * FROM sqlite_master").fetchone():
                    raise sqlite3.DatabaseError("of another version")
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
    # written on one thread, read on any with a lock
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _path(seen: Seen) -> str | None:
    try:
        return path_of_key(seen.message)
    except MessageError:
        return None


FOLLOWED = (IMAGES_NEW, VERDICTS, DUPLICATES, DEAD_LETTERS)
"""The topics that this is a view of."""
