"""A SQLite file that is a view of topics, at the offsets that it holds."""

import fcntl
import logging
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from imagetools.errors import ConfigError
from streams.kafka.follower import ConsumedMessage
from streams.topics import Topic

log = logging.getLogger(__name__)

FILE = "images.sqlite"
LOCK = "lock"
VERSION = 6
"""Of all tables; a file of another version is replaced, and filled from the topics."""

OWN_TABLES = """
CREATE TABLE offsets (topic TEXT, partition INTEGER, next INTEGER, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE logs (topic TEXT PRIMARY KEY, log_id TEXT) WITHOUT ROWID;
"""


class ViewPart(Protocol):
    """Tables that are a view of some topics."""

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The topics."""

    @property
    def tables(self) -> str:
        """The statements that create the tables."""

    def load(self, connection: sqlite3.Connection) -> None:
        """Take over what is in the tables: the file was opened, emptied, or lost its old rows."""

    def take(self, connection: sqlite3.Connection, batch: Sequence[ConsumedMessage]) -> None:
        """Store messages, in a transaction that may yet fail."""

    def committed(self, batch: Sequence[ConsumedMessage], *, live: bool) -> None:
        """Note that the messages are stored; live: they came after the topics had been read to their ends."""

    def delete_before(self, connection: sqlite3.Connection, time: int) -> None:
        """Delete what is older than `time`, milliseconds since 1970."""


class ViewFile:
    """The file; one thread writes it, any thread reads it.

    damaged  a reader found the file damaged: call `recreate`
    """

    def __init__(self, folder: Path | None, parts: Sequence[ViewPart]) -> None:
        """folder: None for one that `close` removes. ConfigError if it cannot be written."""
        self._parts = parts
        self._scratch: str | None = None
        self._lock = threading.Lock()
        self._folder = self._lock_folder(folder)
        self._connections: list[sqlite3.Connection] = []
        self.damaged = False
        try:
            self._connect()
        except sqlite3.DatabaseError as exc:
            self.recreate(exc)

    def resume(self, log_ids: Mapping[str, str]) -> dict[tuple[str, int], int]:
        """Return the next offset of each partition; empty the file first if the topics have other ids than before."""
        if dict(self._write.execute("SELECT topic, log_id FROM logs")) != dict(log_ids):
            with self._write as connection:
                names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                for (name,) in names:
                    connection.execute(f"DELETE FROM {name}")
                connection.executemany("INSERT INTO logs VALUES (?, ?)", log_ids.items())
        self._load()
        return {
            (topic, n): offset for topic, n, offset in self._write.execute("SELECT topic, partition, next FROM offsets")
        }

    def take(self, batch: Sequence[ConsumedMessage]) -> None:
        """Store messages and their offsets in one transaction."""
        offsets = {(one.message.topic(), one.message.partition()): (one.message.offset() or 0) + 1 for one in batch}
        with self._write as connection:
            for part in self._parts:
                part.take(connection, [one for one in batch if one.topic in part.topics])
            connection.executemany(
                "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)",
                [(*partition, offset) for partition, offset in offsets.items()],
            )

    def query(self, statement: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT. sqlite3.DatabaseError if the file is damaged."""
        try:
            with self._lock:
                return self._read.execute(statement, tuple(values)).fetchall()
        except sqlite3.DatabaseError:
            self.damaged = True
            raise

    def delete_before(self, time: int) -> None:
        """Delete what is older than `time`, milliseconds since 1970."""
        with self._write as connection:
            for part in self._parts:
                part.delete_before(connection, time)
        self._load()

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
        tables = OWN_TABLES + "".join(part.tables for part in self._parts)
        with closing(sqlite3.connect(path)) as first:
            if first.execute("PRAGMA user_version").fetchone() != (VERSION,):
                if first.execute("SELECT * FROM sqlite_master").fetchone():
                    raise sqlite3.DatabaseError("it has another version")
                first.executescript(f"PRAGMA journal_mode = WAL; {tables} PRAGMA user_version = {VERSION};")
        with self._lock:
            self._connections += [_connection(path), _connection(path)]
            self._write, self._read = self._connections
        self._load()

    def _disconnect(self) -> None:
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _load(self) -> None:
        for part in self._parts:
            part.load(self._write)


def _connection(path: Path) -> sqlite3.Connection:
    # one thread writes; any thread reads, with the lock
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection
