"""Features on disk, for the images that memory has no room for, and for what comes after a restart.

A cache in one SQLite file, which any number of threads and processes of a machine share: whatever is wrong with it,
features are computed as without it. The folder must be on a local disk, since network file systems do not lock well
enough for SQLite.
"""

import errno
import fcntl
import hashlib
import logging
import os
import queue
import shutil
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import PIL
import pillow_heif

from imagetools import decode, features, matcher, mbr_sift
from imagetools.decode import ImageRoot
from imagetools.errors import ConfigError, ImageError, ImageRootUnavailable
from imagetools.features import Features, Packed, pack, unpack
from imagetools.matcher import MatcherConfig

log = logging.getLogger(__name__)

FILE: Final = "features-1.sqlite"
"""Counted up when the tables change, so that two versions of the code may share the folder."""

# An image's features fill some seven pages of this size
_PAGE_BYTES: Final = 16384
# The journal grows to about so much before it is written into the file, and keeps no more afterwards
_JOURNAL_BYTES: Final = 16 * 2**20
# Nothing is written where the disk has less than this left: others need it more
_SPARE_BYTES: Final = 10**9
_BUSY_S: Final = 1.0
# After a write that failed, none is tried for so long: each could wait until it is clear that nobody else is writing
_PAUSE_S: Final = 30.0
# Deleted pictures stay in the journal until it is emptied, which is done this often at most
_EMPTIED_S: Final = 60.0
_HOUR_S: Final = 3600
# What other code made is of use as long as that code may still be running beside this
_OTHERS_KEPT_HOURS: Final = 24
# A folder of images that is away may come back; after a month it costs less to compute anew
_AWAY_KEPT_HOURS: Final = 30 * 24
# Images that wait to be written at most, and those that are written in one transaction
_WAITING: Final = 256
_TOGETHER: Final = 64
_GATHERED_S: Final = 0.2
# Rows that go at a time when there is no room
_LEAVING: Final = 32

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
_SIZES: Final = "original_width, original_height, width, height, close_width, close_height, count"


class FeatureStore:
    """Keeps features by root, path and state of the file; the least recently used, by the hour, go when it is full.

    Every method but the constructor and `close` may be called from any thread, and none raises what the disk is to
    blame for: that is logged, and the caller computes.
    """

    def __init__(self, folder: Path, limit_bytes: int, config: MatcherConfig) -> None:
        """Make the folder and the file where they are not there yet, for this user's eyes only.

        limit_bytes  that the file takes at most; its journal takes some 20 MB beside it
        config       features by other settings, or of another version of the code, are not found

        ConfigError where the folder cannot be made or written.
        """
        self._file = folder / FILE
        self._limit = limit_bytes
        self._maker = _maker(config)
        self._mine = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._writer = threading.Lock()
        self._waiting: queue.Queue[tuple[Path, str, str, Features] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._keep, name="features", daemon=True)
        self._said = ""
        self._no_writes_before = 0.0
        self._looked_at = 0
        self._journal_since: float | None = None
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives its journal the rights of the file
            os.close(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as exc:
            raise ConfigError(f"the folder of features {folder}: {exc.strerror or exc}") from exc
        with self._sparing():
            self._prepare()
            log.info("%s: features of %d images", self._file, self.count())
        self._thread.start()

    def get(self, root: Path, path: str, state: str) -> Features | None:
        """The features of an image in that state, as `state_of` tells it; None where they are not kept."""
        found, stale = None, None
        with self._sparing():
            row = self._connection.execute(
                f"SELECT id, used, crc, data, key, {_SIZES} FROM images JOIN features USING (id)"
                " WHERE path = ? AND root = ? AND maker = ? AND state = ?",
                (path, _named(root), self._maker, state),
            ).fetchone()
            if row is None:
                return None
            number, used, crc, data, key, *sizes = row
            packed = Packed(tuple(sizes), data, key)
            if _crc(path, state, packed) != crc:
                raise ValueError(f"the features of {path} are damaged")
            found = unpack(packed)
            # once an hour is often enough to know what is in use
            stale = number if used != _hour() else None
        if stale is not None:
            with self._sparing(), self._writing() as connection:
                connection.execute("UPDATE images SET used = ? WHERE id = ? AND state = ?", (_hour(), stale, state))
        return found

    def put(self, root: Path, path: str, state: str, made: Features) -> None:
        """Keep the features of an image, in place of those of another state of it.

        They are written by and by, beside the caller's work; where the disk cannot follow, they are not kept.
        """
        with suppress(queue.Full):
            self._waiting.put_nowait((root, path, state, made))

    def flush(self) -> None:
        """Wait until all that was put is written."""
        self._waiting.join()

    def look_over(self, count: int) -> None:
        """Let go of the next `count` images whose file is gone or another by now; round and round. For one thread.

        So what is left of an image that was deleted is deleted too, its bytes included, within a minute. Where a folder
        of images is away, what is kept of it stays for a month.
        """
        with self._sparing():
            rows = self._connection.execute(
                "SELECT id, path, state, root, maker, used FROM images WHERE id > ? ORDER BY id LIMIT ?",
                (self._looked_at, count),
            ).fetchall()
            self._looked_at = rows[-1][0] if len(rows) == count else 0
            gone = [row[:3] for row in rows if self._is_of_no_use(*row[1:])]
            if gone:
                with self._writing() as connection:
                    connection.executemany("DELETE FROM images WHERE id = ? AND path = ? AND state = ?", gone)
                self._journal_since = self._journal_since or time.monotonic()
            if self._journal_since is not None and time.monotonic() >= self._journal_since + _EMPTIED_S:
                (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._journal_since = time.monotonic() if busy else None

    def count(self) -> int:
        """Images whose features are kept."""
        return int(self._connection.execute("SELECT count(*) FROM images").fetchone()[0])

    def close(self) -> None:
        """Write what was put, and let go of the file; no other thread may be in a method."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()
        self._disconnect()

    def _keep(self) -> None:
        """Write what is put, some images in one transaction, until told to end."""
        while True:
            batch = [self._waiting.get()]
            if batch[0] is not None:
                # what comes meanwhile costs half as much together, and interrupts those who compute less often
                time.sleep(_GATHERED_S)
            with suppress(queue.Empty):
                while len(batch) < _TOGETHER:
                    batch.append(self._waiting.get_nowait())
            images = [image for image in batch if image is not None]
            if images:
                self._write(images)
            for _ in batch:
                self._waiting.task_done()
            if len(images) < len(batch):
                return

    def _write(self, images: Sequence[tuple[Path, str, str, Features]]) -> None:
        with self._sparing(), self._writing() as connection:
            if shutil.disk_usage(self._file.parent).free < _SPARE_BYTES:
                raise OSError(errno.ENOSPC, "there is hardly any room left on the disk")
            for image in images:
                self._insert(connection, *image)

    def _insert(self, connection: sqlite3.Connection, root: Path, path: str, state: str, made: Features) -> None:
        whose, packed = (path, _named(root), self._maker), pack(made)
        connection.execute("DELETE FROM images WHERE path = ? AND root = ? AND maker = ?", whose)
        self._make_room(connection)
        number = connection.execute(
            "INSERT INTO images (path, root, maker, state, used) VALUES (?, ?, ?, ?, ?)", (*whose, state, _hour())
        ).lastrowid
        connection.execute(
            f"INSERT INTO features (id, crc, data, key, {_SIZES}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (number, _crc(path, state, packed), packed.data, packed.key, *packed.sizes),
        )

    def _disconnect(self) -> None:
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()

    def _prepare(self) -> None:
        """Make the tables where there are none, and anew where they cannot be read; keep within the limit."""
        folder = os.open(self._file.parent, os.O_RDONLY)
        try:
            # one process at a time: nobody waits for a lock, as SQLite does, while the journal's mode changes
            fcntl.flock(folder, fcntl.LOCK_EX)
            try:
                made = self._connection.execute("PRAGMA user_version").fetchone() != (0,)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as exc:
                log.warning("%s: %s; begun anew", self._file, exc)
                self._begin_anew()
                made = False
            if not made:
                connection = self._connection
                connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
                # so that a lower limit can give room back
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
                connection.execute("PRAGMA journal_mode=WAL")
                with self._writing():
                    for statement in _TABLES:
                        connection.execute(statement)
                    connection.execute("PRAGMA user_version=1")
        finally:
            os.close(folder)
        self._shrink()

    def _begin_anew(self) -> None:
        self._disconnect()
        del self._mine.connection
        for ending in ("", "-wal", "-shm"):
            self._file.with_name(FILE + ending).unlink(missing_ok=True)
        os.close(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600))

    def _shrink(self) -> None:
        """Keep to a limit that was higher when the file was written."""
        connection = self._connection
        if self._bytes(connection) < self._limit:
            return
        while self._bytes(connection) >= self._limit:
            with self._writing():
                self._make_room(connection)
        # a script is carried out to its end; of a statement without rows only the first step would be
        connection.executescript("PRAGMA incremental_vacuum")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @property
    def _connection(self) -> sqlite3.Connection:
        """The calling thread's own: one connection would do one thing at a time."""
        found: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if found is None:
            # `close` comes from another thread; transactions are begun here, not by the module
            found = sqlite3.connect(self._file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            with self._lock:
                self._all.append(found)
            self._mine.connection = found
            for setting in (
                "foreign_keys=ON",
                # a crash of the machine may lose the last features, and damages nothing
                "synchronous=NORMAL",
                # what is deleted is overwritten
                "secure_delete=ON",
                f"journal_size_limit={_JOURNAL_BYTES}",
                f"wal_autocheckpoint={_JOURNAL_BYTES // _PAGE_BYTES}",
            ):
                found.execute(f"PRAGMA {setting}")
        return found

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        # one thread at a time: SQLite would have the others sleep for some milliseconds, and ask again
        with self._writer:
            if time.monotonic() < self._no_writes_before:
                raise _Paused
            try:
                # at once: a transaction that begins by reading may not be let to write, however long it waits
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except (sqlite3.Error, OSError):
                self._no_writes_before = time.monotonic() + _PAUSE_S
                raise
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def _sparing(self) -> Iterator[None]:
        """Spare the caller what is wrong with the file or the disk; told once for as long as it is the same."""
        try:
            yield
        except _Paused:
            pass
        except (sqlite3.Error, OSError, ValueError, TypeError, OverflowError) as exc:
            if (text := f"{type(exc).__name__}: {exc}"[:300]) != self._said:
                self._said = text
                log.warning("%s: %s; what is not kept there is computed anew", self._file, text)

    def _bytes(self, connection: sqlite3.Connection) -> int:
        (pages,), (free,) = (connection.execute(f"PRAGMA {of}").fetchone() for of in ("page_count", "freelist_count"))
        return int(pages - free) * _PAGE_BYTES

    def _make_room(self, connection: sqlite3.Connection) -> None:
        if self._bytes(connection) >= self._limit:
            connection.execute(
                "DELETE FROM images WHERE id IN (SELECT id FROM images ORDER BY used, id LIMIT ?)", (_LEAVING,)
            )

    def _is_of_no_use(self, path: str, state: str, root: bytes, maker: bytes, used: int) -> bool:
        unused_hours = _hour() - used
        if maker != self._maker and unused_hours > _OTHERS_KEPT_HOURS:
            return True
        folder = Path(os.fsdecode(root))
        try:
            # it tells a file that is gone from a folder that is away
            ImageRoot(folder).resolve(path)
        except ImageError:
            return True
        except ImageRootUnavailable:
            return unused_hours > _AWAY_KEPT_HOURS
        # gone since that moment: the next round tells whether the file or the folder is
        return state_of(folder, path) not in (state, None)


class _Paused(Exception):
    """A write was not tried, as one has failed a moment ago."""


def state_of(root: Path, path: str) -> str | None:
    """What tells whether a file still is what it was: inode, bytes, times of its last change; None without a file."""
    try:
        status = os.stat(os.path.join(root, path))
    except (OSError, ValueError):
        return None
    # a program may set the one time back, such as one that turns a photo by its EXIF, but not the other
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def _named(root: Path) -> bytes:
    return os.fsencode(os.path.abspath(root))


def _crc(path: str, state: str, packed: Packed) -> int:
    return zlib.crc32(packed.data, zlib.crc32(repr((path, state, packed.sizes, packed.key)).encode()))


def _hour() -> int:
    return int(time.time()) // _HOUR_S


def _maker(config: MatcherConfig) -> bytes:
    """What tells whether features would be the same today: settings, code, and the libraries that compute."""
    parts = [config.width, config.height, config.max_keypoints, config.contrast]
    versions = [cv2.__version__, np.__version__, PIL.__version__, pillow_heif.__version__]
    sources = [Path(module.__file__ or "").read_bytes() for module in (decode, features, matcher, mbr_sift)]
    return hashlib.sha256(repr((parts, versions, sources)).encode()).digest()[:16]
