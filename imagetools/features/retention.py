"""Which features leave the store: by day, by file, and by room."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from imagetools.errors import ImageError, ImageRootUnavailable
from imagetools.features.database import FeatureDatabase
from imagetools.image_root import ImageRoot

EMPTY_S: Final = 60.0
"""Deleted rows stay in the journal until it is emptied, this often."""

# Features by other code or settings serve as long as such a process may still run beside this one
_OTHERS_KEPT_DAYS: Final = 2
# A missing folder of images may come back; after a month it costs less to compute its features again
_AWAY_KEPT_DAYS: Final = 30
# Rows that are deleted at a time when there is no room
_ROWS_DELETED: Final = 32
_DAY_S: Final = 86400


def root_bytes(root: ImageRoot) -> bytes:
    """Return a root as the tables name it."""
    return root.name.encode() if root.folder is None else os.fsencode(os.path.abspath(root.folder))


def today() -> int:
    """Return the day, counted from 1970."""
    return int(time.time()) // _DAY_S


def _is_store(root: bytes) -> bool:
    return b"://" in root


class Retention:
    """Deletes features that are of no use, and the least recently used when the file is full.

    One thread at a time.
    """

    def __init__(self, database: FeatureDatabase, limit_bytes: int, maker: bytes) -> None:
        self._database = database
        self._limit = limit_bytes
        self._maker = maker
        self._checked_id = 0
        self._stores: dict[bytes, ImageRoot] = {}
        # an earlier process may have ended before it emptied the journal
        self._deleted = True
        self._emptied_at = time.monotonic()

    def note_root(self, root: ImageRoot) -> bytes:
        """Return a root as the tables name it; one that is a store can then be asked for its files."""
        name = root_bytes(root)
        if root.folder is None:
            self._stores[name] = root
        return name

    def note_deletion(self) -> None:
        """Remember that rows were deleted, so that the journal is emptied."""
        self._deleted = True

    def make_room(self, connection: sqlite3.Connection) -> int:
        """Delete the least recently used rows where the file is full; return how many."""
        if self._database.used_bytes() < self._limit:
            return 0
        self._deleted = True
        return connection.execute(
            "DELETE FROM images WHERE id IN (SELECT id FROM images ORDER BY used, id LIMIT ?)", (_ROWS_DELETED,)
        ).rowcount

    def shrink(self) -> None:
        """Shrink a file that was written under a higher limit."""
        if self._database.used_bytes() < self._limit:
            return
        deleted = 1
        while deleted:
            # little by little: in one transaction the journal would grow as large as all deleted rows
            with self._database.transaction() as connection:
                deleted = self.make_room(connection)
        self._database.release_free_pages()

    def delete_stale(self, count: int) -> None:
        """Check the next `count` images, round and round, and delete those whose file is gone or has changed.

        So a deleted image is deleted here too. While a folder of images is away, or a store that this process has not
        read from, its features stay for a month.
        """
        rows = self._database.connection.execute(
            "SELECT id, path, state, root, maker, used FROM images WHERE id > ? ORDER BY id LIMIT ?",
            (self._checked_id, count),
        ).fetchall()
        # asking a store takes time and money: one image of it at a time
        end = next((n for n, row in enumerate(rows) if _is_store(row[3])), len(rows)) + 1
        stale = [row[:3] for row in rows[:end] if self._is_stale(*row[1:])]
        if stale:
            with self._database.transaction() as connection:
                connection.executemany("DELETE FROM images WHERE id = ? AND path = ? AND state = ?", stale)
            self._deleted = True
        self._checked_id = rows[:end][-1][0] if end < len(rows) or len(rows) == count else 0

    def _is_stale(self, path: str, state: str, root: bytes, maker: bytes, used: int) -> bool:
        unused_days = today() - used
        if maker != self._maker and unused_days >= _OTHERS_KEPT_DAYS:
            return True
        images = self._stores.get(root) if _is_store(root) else ImageRoot(Path(os.fsdecode(root)))
        if images is None:
            # nobody here knows how to ask that store
            return unused_days > _AWAY_KEPT_DAYS
        try:
            # tells a missing file from a missing folder
            return images.status(path).state != state
        except ImageError:
            return True
        except ImageRootUnavailable:
            return unused_days > _AWAY_KEPT_DAYS
        except OSError:
            # the file may be there
            return False

    def empty_journal(self) -> None:
        """Empty the journal of deleted rows, when it is time."""
        if self._deleted and time.monotonic() >= self._emptied_at + EMPTY_S:
            self._emptied_at = time.monotonic()
            self._deleted = not self._database.empty_journal()
