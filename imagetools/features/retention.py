"""Which features leave the store: by day, by file, and by room."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from imagetools.errors import ImageError, ImageRootUnavailable
from imagetools.features.database import FeatureDatabase
from imagetools.features.file_state import file_state
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


def today() -> int:
    """Return the day, counted from 1970."""
    return int(time.time()) // _DAY_S


class Retention:
    """Deletes features that are of no use, and the least recently used when the file is full.

    One thread at a time.
    """

    def __init__(self, database: FeatureDatabase, limit_bytes: int, maker: bytes) -> None:
        self._database = database
        self._limit = limit_bytes
        self._maker = maker
        self._checked_id = 0
        # an earlier process may have ended before it emptied the journal
        self._deleted = True
        self._emptied_at = time.monotonic()

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

        So a deleted image is deleted here too. While a folder of images is away, its features stay for a month.
        """
        rows = self._database.connection.execute(
            "SELECT id, path, state, root, maker, used FROM images WHERE id > ? ORDER BY id LIMIT ?",
            (self._checked_id, count),
        ).fetchall()
        stale = [row[:3] for row in rows if self._is_stale(*row[1:])]
        if stale:
            with self._database.transaction() as connection:
                connection.executemany("DELETE FROM images WHERE id = ? AND path = ? AND state = ?", stale)
            self._deleted = True
        self._checked_id = rows[-1][0] if len(rows) == count else 0

    def _is_stale(self, path: str, state: str, root: bytes, maker: bytes, used: int) -> bool:
        unused_days = today() - used
        if maker != self._maker and unused_days >= _OTHERS_KEPT_DAYS:
            return True
        folder = Path(os.fsdecode(root))
        try:
            # tells a missing file from a missing folder
            ImageRoot(folder).resolve(path)
        except ImageError:
            return True
        except ImageRootUnavailable:
            return unused_days > _AWAY_KEPT_DAYS
        except OSError:
            # the file may be there
            return False
        # None: gone since that moment; the next round tells whether the file or the folder is
        return file_state(folder, path) not in (state, None)

    def empty_journal(self) -> None:
        """Empty the journal of deleted rows, when it is time."""
        if self._deleted and time.monotonic() >= self._emptied_at + EMPTY_S:
            self._emptied_at = time.monotonic()
            self._deleted = not self._database.empty_journal()
