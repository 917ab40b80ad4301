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
from typing import Final, NamedTuple

import cv2
import numpy as np
import PIL
import pillow_heif

from imagetools import decode
from imagetools.decode import ImageRoot
from imagetools.errors import ConfigError, ImageError, ImageRootUnavailable
from imagetools.features import extract, mbr_sift
from imagetools.features.config import FeatureConfig
from imagetools.features.extract import Features, Packed, pack, unpack

log = logging.getLogger(__name__)

FILE: Final = "features-1.sqlite"
"""Counted up when the tables change, so that two versions of the code may share the folder."""

# An image's features fill some seven pages of this size
_PAGE_BYTES: Final = 16384
# The journal grows to about so much before it is written into the file, and keeps no more afterwards
_JOURNAL_BYTES: Final = 16 * 2**20
# Nothing is written where the disk has less than this left: others need it more
_SPARE_BYTES: Final = 10**9
# How long the writing thread waits for another process; nobody waits for it
_BUSY_S: Final = 10.0
# Images that wait to be written at most, and those that are written in one transaction, which are gathered for a moment
_WAITING: Final = 256
_TOGETHER: Final = 64
_GATHERED_S: Final = 0.2
# So many images are looked over so often
_LOOKED_OVER: Final = 8
_LOOK_S: Final = 1.0
# Deleted pictures stay in the journal until it is emptied
_EMPTIED_S: Final = 60.0
# What other code or settings made is of use as long as these may still run beside this
_OTHERS_KEPT_DAYS: Final = 2
# A folder of images that is away may come back; after a month it costs less to compute anew
_AWAY_KEPT_DAYS: Final = 30
# Rows that go at a time when there is no room
_LEAVING: Final = 32
_DAY_S: Final = 86400
# A thread that is stuck for longer when the store is closed is left behind
_CLOSING_S: Final = 15.0

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
    """Keeps features by root, path and state of the file; the least recently used, by the day, go when it is full.

    `get` and `put` may be called from any thread. Neither waits for another process, nor raises what the file or the
    disk is to blame for: that is logged, and the caller computes. All writing is done by a thread of the store's own.
    """

    def __init__(self, folder: Path, limit_bytes: int, config: FeatureConfig) -> None:
        """Make the folder and the file where they are not there yet, for this user's eyes only.

        limit_bytes  that the file takes at most; its journal takes some 30 MB beside it
        config       features by other settings, or of another version of the code, are not found

        ConfigError where the folder cannot be made or written.
        """
        self._file = folder / FILE
        self._limit = limit_bytes
        self._maker = _maker(config)
        self._mine = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._waiting: queue.Queue[_Image | _Used | threading.Event | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._keep, name="features", daemon=True)
        self._said = ""
        self._damaged = False
        self._looked_at = 0
        # somebody before may not have come to it
        self._deleted = True
        self._emptied_at = time.monotonic()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_file()
        except OSError as exc:
            raise ConfigError(f"the folder of features {folder}: {exc.strerror or exc}") from exc
        with self._sparing():
            self._prepare()
            log.info("%s: features of %d images", self._file, self.count())
        self._thread.start()

    def get(self, root: Path, path: str, state: str) -> Features | None:
        """The features of an image in that state, as `state_of` tells it; None where they are not kept."""
        with self._sparing():
            if self._damaged:
                return None
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
            if used != _today():
                self._ask(_Used(number, state))
            return unpack(packed)
        return None

    def put(self, root: Path, path: str, state: str, made: Features) -> None:
        """Keep the features of an image, in place of those of another state of it.

        They are written by and by, beside the caller's work; where the disk cannot follow, they are not kept.
        """
        self._ask(_Image(root, path, state, made))

    def flush(self) -> None:
        """Wait until all that was put is written."""
        written = threading.Event()
        self._waiting.put(written)
        while self._thread.is_alive() and not written.wait(_LOOK_S):
            pass

    def count(self) -> int:
        """Images whose features are kept. sqlite3.Error where that cannot be read."""
        return int(self._connection.execute("SELECT count(*) FROM images").fetchone()[0])

    def close(self) -> None:
        """Write what was put, and let go of the file; no other thread may be in a method."""
        if self._thread.is_alive():
            with suppress(queue.Full):
                self._waiting.put(None, timeout=_CLOSING_S)
            self._thread.join(_CLOSING_S)
        if self._thread.is_alive():
            log.warning("%s: given up on a disk, or a folder of images, that does not answer", self._file)
        else:
            self._disconnect()

    def _ask(self, what: "_Image | _Used") -> None:
        if self._thread.is_alive() and not self._damaged:
            with suppress(queue.Full):
                self._waiting.put_nowait(what)

    # the thread

    def _keep(self) -> None:
        with self._sparing():
            self._shrink()
        look_at = time.monotonic() + _LOOK_S
        ended = False
        while not ended:
            batch = self._gathered()
            images = [one for one in batch if isinstance(one, _Image)]
            used = [one for one in batch if isinstance(one, _Used)]
            if images or used:
                with self._sparing():
                    self._write(images, used)
            for one in batch:
                if isinstance(one, threading.Event):
                    one.set()
            ended = None in batch
            if not ended and time.monotonic() >= look_at:
                look_at = time.monotonic() + _LOOK_S
                with self._sparing():
                    self._look_over(_LOOKED_OVER)
                    self._empty_journal()

    def _gathered(self) -> list["_Image | _Used | threading.Event | None"]:
        """What waits; at least something, or nothing after a while."""
        batch = []
        with suppress(queue.Empty):
            batch.append(self._waiting.get(timeout=_LOOK_S))
            if isinstance(batch[0], _Image | _Used) and self._waiting.qsize() < _TOGETHER:
                # what comes meanwhile costs half as much together, and interrupts those who compute less often
                time.sleep(_GATHERED_S)
            while len(batch) < _TOGETHER:
                batch.append(self._waiting.get_nowait())
        return batch

    def _write(self, images: Sequence["_Image"], used: Sequence["_Used"]) -> None:
        if images and shutil.disk_usage(self._file.parent).free < _SPARE_BYTES:
            raise OSError(errno.ENOSPC, "there is hardly any room left on the disk")
        with self._writing() as connection:
            for image in images:
                self._insert(connection, image)
            connection.executemany(
                "UPDATE images SET used = ? WHERE id = ? AND state = ?", [(_today(), *u) for u in used]
            )

    def _insert(self, connection: sqlite3.Connection, image: "_Image") -> None:
        whose, packed = (image.path, _named(image.root), self._maker), pack(image.made)
        if connection.execute("DELETE FROM images WHERE path = ? AND root = ? AND maker = ?", whose).rowcount:
            self._deleted = True
        self._make_room(connection)
        number = connection.execute(
            "INSERT INTO images (path, root, maker, state, used) VALUES (?, ?, ?, ?, ?)",
            (*whose, image.state, _today()),
        ).lastrowid
        connection.execute(
            f"INSERT INTO features (id, crc, data, key, {_SIZES}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (number, _crc(image.path, image.state, packed), packed.data, packed.key, *packed.sizes),
        )

    def _make_room(self, connection: sqlite3.Connection) -> int:
        """Let the least recently used go where there is no room; how many went."""
        if self._bytes(connection) < self._limit:
            return 0
        self._deleted = True
        return connection.execute(
            "DELETE FROM images WHERE id IN (SELECT id FROM images ORDER BY used, id LIMIT ?)", (_LEAVING,)
        ).rowcount

    def _shrink(self) -> None:
        """Keep to a limit that was higher when the file was written."""
        if self._bytes(self._connection) < self._limit:
            return
        gone = 1
        while gone:
            # little by little: in one transaction the journal would grow as large as all that goes
            with self._writing() as connection:
                gone = self._make_room(connection)
        # a script is carried out to its end; of a statement without rows only the first step would be
        self._connection.executescript("PRAGMA incremental_vacuum")

    def _look_over(self, count: int) -> None:
        """Let go of the next `count` images whose file is gone or another by now; round and round.

        So what is left of an image that was deleted is deleted too. Where a folder of images is away, what is kept of
        it stays for a month.
        """
        rows = self._connection.execute(
            "SELECT id, path, state, root, maker, used FROM images WHERE id > ? ORDER BY id LIMIT ?",
            (self._looked_at, count),
        ).fetchall()
        gone = [row[:3] for row in rows if self._is_of_no_use(*row[1:])]
        if gone:
            with self._writing() as connection:
                connection.executemany("DELETE FROM images WHERE id = ? AND path = ? AND state = ?", gone)
            self._deleted = True
        self._looked_at = rows[-1][0] if len(rows) == count else 0

    def _is_of_no_use(self, path: str, state: str, root: bytes, maker: bytes, used: int) -> bool:
        unused_days = _today() - used
        if maker != self._maker and unused_days >= _OTHERS_KEPT_DAYS:
            return True
        folder = Path(os.fsdecode(root))
        try:
            # it tells a file that is gone from a folder that is away
            ImageRoot(folder).resolve(path)
        except ImageError:
            return True
        except ImageRootUnavailable:
            return unused_days > _AWAY_KEPT_DAYS
        except OSError:
            # a file that cannot be asked about may be there
            return False
        # gone since that moment: the next round tells whether the file or the folder is
        return state_of(folder, path) not in (state, None)

    def _empty_journal(self) -> None:
        if self._deleted and time.monotonic() >= self._emptied_at + _EMPTIED_S:
            self._emptied_at = time.monotonic()
            (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._deleted = bool(busy)

    # the file

    def _prepare(self) -> None:
        """Make the tables where there are none, and a new file where it is none of SQLite's."""
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
                self._disconnect()
                self._delete()
                self._make_file()
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

    def _make_file(self) -> None:
        # SQLite gives its journal the rights of the file
        os.close(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600))

    def _delete(self) -> None:
        for ending in ("", "-wal", "-shm"):
            self._file.with_name(FILE + ending).unlink(missing_ok=True)

    def _disconnect(self) -> None:
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._mine = threading.local()

    @property
    def _connection(self) -> sqlite3.Connection:
        """The calling thread's own: one connection would do one thing at a time."""
        found: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if found is None:
            # `close` comes from another thread; transactions are begun here, not by the module
            found = sqlite3.connect(self._file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            with self._lock:
                self._all.append(found)
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
            self._mine.connection = found
        return found

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        # at once: a transaction that begins by reading may not be let to write, however long it waits
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    @contextmanager
    def _sparing(self) -> Iterator[None]:
        """Spare the caller what is wrong with the file or the disk; it is told where it is not what was told last."""
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, TypeError, OverflowError) as exc:
            if (text := f"{type(exc).__name__}: {exc}"[:300]) != self._said:
                self._said = text
                log.warning("%s: %s; what is not kept there is computed anew", self._file, text)
            if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_CORRUPT and not self._damaged:
                self._damaged = True
                with suppress(OSError):
                    self._delete()
                log.warning("%s: damaged, and deleted; begun anew at the next start", self._file)

    def _bytes(self, connection: sqlite3.Connection) -> int:
        (pages,), (free,) = (connection.execute(f"PRAGMA {of}").fetchone() for of in ("page_count", "freelist_count"))
        return int(pages - free) * _PAGE_BYTES


class _Image(NamedTuple):
    """To be kept."""

    root: Path
    path: str
    state: str
    made: Features


class _Used(NamedTuple):
    """To be marked as used today."""

    number: int
    state: str


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


def _today() -> int:
    return int(time.time()) // _DAY_S


def _maker(config: FeatureConfig) -> bytes:
    """What tells whether features would be the same today: settings, code, and the libraries that compute."""
    parts = [config.width, config.height, config.max_keypoints, config.contrast]
    versions = [cv2.__version__, np.__version__, PIL.__version__, pillow_heif.__version__]
    sources = [Path(module.__file__ or "").read_bytes() for module in (decode, extract, mbr_sift)]
    return hashlib.sha256(repr((parts, versions, sources)).encode()).digest()[:16]
