"""The SQLite file of the feature store: its tables, a connection for each thread, transactions, and its errors."""

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

FILE: Final = "features-1.sqlite"
"""Counted up when the tables change, so that two versions of the code can share the folder."""

BUSY_S: Final = 10.0
"""How long a writer waits for another process."""

# An image's features fill some seven pages of this size
_PAGE_BYTES: Final = 16384
# The journal is written into the file from about this size on, and cut to it
_JOURNAL_BYTES: Final = 16 * 2**20

_TABLES: Final = (
    """
CREATE TABLE images (
    id INTEGER PRIMARY KEY,
    root BLOB NOT NULL,
    path TEXT NOT NULL,
    maker BLOB NOT NULL,
    state TEXT NOT NULL,
    used INTEGER NOT NULL,
    UNIQUE (path, root, maker)
)""",
    "CREATE INDEX images_used ON images (used)",
    """
CREATE TABLE features (
    id INTEGER PRIMARY KEY REFERENCES images ON DELETE CASCADE,
    original_width INTEGER NOT NULL,
    original_height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    close_width INTEGER NOT NULL,
    close_height INTEGER NOT NULL,
    count INTEGER NOT NULL,
    key BLOB NOT NULL,
    crc INTEGER NOT NULL,
    data BLOB NOT NULL
)""",
)
SIZES: Final = "original_width, original_height, width, height, close_width, close_height, count"
"""Columns of `Packed.sizes`."""


class FeatureDatabase:
    """Opens the file of the feature store and guards it. Thread-safe.

    file     its path
    damaged  SQLite found it damaged: it is deleted, and begun again at the next start
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder and the file if they are missing, readable by this user alone. OSError."""
        self.file = folder / FILE
        self.damaged = False
        self._mine = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._logged = ""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_file()

    def prepare(self) -> None:
        """Make the tables if they are missing, and a new file where it is not one of SQLite's."""
        folder = os.open(self.file.parent, os.O_RDONLY)
        try:
            # one process at a time: SQLite itself does not wait for a lock while the journal's mode changes
            fcntl.flock(folder, fcntl.LOCK_EX)
            if not self._has_tables():
                self._make_tables()
        finally:
            os.close(folder)

    def _has_tables(self) -> bool:
        try:
            return bool(self.connection.execute("PRAGMA user_version").fetchone() != (0,))
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as exc:
            log.warning("%s: %s; begun again", self.file, exc)
            self.disconnect()
            self._delete()
            self._make_file()
            return False

    def _make_tables(self) -> None:
        connection = self.connection
        connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        # so that a lower limit can give room back
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        with self.transaction():
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute("PRAGMA user_version=1")

    @property
    def connection(self) -> sqlite3.Connection:
        """The calling thread's own: a shared one would do one thing at a time."""
        found: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if found is None:
            # another thread closes it; transactions begin explicitly, not by the module
            found = sqlite3.connect(self.file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            with self._lock:
                self._all.append(found)
            for setting in (
                "foreign_keys=ON",
                # a crash of the machine may lose the last features, and damages nothing
                "synchronous=NORMAL",
                # deleted rows are overwritten
                "secure_delete=ON",
                f"journal_size_limit={_JOURNAL_BYTES}",
                f"wal_autocheckpoint={_JOURNAL_BYTES // _PAGE_BYTES}",
            ):
                found.execute(f"PRAGMA {setting}")
            self._mine.connection = found
        return found

    def disconnect(self) -> None:
        """Close the connections of all threads; none may be in use."""
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._mine = threading.local()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write in one transaction, rolled back on an error."""
        connection = self.connection
        # at once: a transaction that begins by reading may be refused to write, however long it waits
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    @contextmanager
    def errors_logged(self) -> Iterator[None]:
        """Log errors of the file or the disk instead of raising them, equal ones once; delete a damaged file."""
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, TypeError, OverflowError) as exc:
            if (text := f"{type(exc).__name__}: {exc}"[:300]) != self._logged:
                self._logged = text
                log.warning("%s: %s; features that are not kept there are computed again", self.file, text)
            if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_CORRUPT and not self.damaged:
                self.damaged = True
                with suppress(OSError):
                    self._delete()
                log.warning("%s: damaged, and deleted; begun again at the next start", self.file)

    def used_bytes(self) -> int:
        """Bytes of the file that hold rows."""
        (pages,), (free,) = (
            self.connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count")
        )
        return int(pages - free) * _PAGE_BYTES

    def release_free_pages(self) -> None:
        """Give the room of deleted rows back to the disk."""
        # a script runs to its end; of a statement without rows only the first step would run
        self.connection.executescript("PRAGMA incremental_vacuum")

    def empty_journal(self) -> bool:
        """Write the journal into the file and empty it; False while another process reads it."""
        (busy, *_) = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def _make_file(self) -> None:
        # SQLite gives its journal the rights of the file
        os.close(os.open(self.file, os.O_RDWR | os.O_CREAT, 0o600))

    def _delete(self) -> None:
        for ending in ("", "-wal", "-shm"):
            self.file.with_name(FILE + ending).unlink(missing_ok=True)
