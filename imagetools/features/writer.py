"""The thread that writes features to disk, beside those that compute them."""

import errno
import queue
import shutil
import sqlite3
import threading
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from imagetools.features import retention
from imagetools.features.database import SIZES, FeatureDatabase
from imagetools.features.extract import Features
from imagetools.features.pack import Packed, pack
from imagetools.features.retention import Retention
from imagetools.image_root import ImageRoot

CHECK_S: Final = 1.0
"""How often some images are checked for being stale."""

GATHER_S: Final = 0.2
"""How long new features are gathered for one transaction."""

SPARE_BYTES: Final = 10**9
"""Nothing is written where the disk has less than this left: others need it more."""

# Images that wait to be written, and those that are written in one transaction
_MAX_WAITING: Final = 256
_MAX_TOGETHER: Final = 64
# Images that are checked at a time
_CHECKED: Final = 8


class NewFeatures(NamedTuple):
    """Features to write, of an image in a state."""

    root: ImageRoot
    path: str
    state: str
    features: Features


class Use(NamedTuple):
    """A row that was read, to be marked as used today."""

    number: int
    state: str


_Task = NewFeatures | Use | threading.Event | None
"""An event is set when what came before it is written; None ends the thread."""


class FeatureWriter:
    """Writes features from a queue in a thread of its own, and deletes those of no use. Nobody waits for it."""

    def __init__(self, database: FeatureDatabase, keeping: Retention, maker: bytes) -> None:
        self._database = database
        self._retention = keeping
        self._maker = maker
        self._tasks: queue.Queue[_Task] = queue.Queue(_MAX_WAITING)
        # set while somebody waits for the tasks
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="features", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, task: NewFeatures | Use) -> None:
        """Queue a task; drop it where too many wait already."""
        if self._thread.is_alive() and not self._database.damaged:
            with suppress(queue.Full):
                self._tasks.put_nowait(task)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all tasks so far are done; False where they are not in time."""
        written, deadline = threading.Event(), time.monotonic() + timeout_s
        self._asked.set()
        try:
            self._tasks.put(written, timeout=timeout_s)
        except queue.Full:
            return False
        while self._thread.is_alive() and not written.is_set() and (left := deadline - time.monotonic()) > 0:
            written.wait(min(left, CHECK_S))
        return written.is_set()

    def stop(self, timeout_s: float) -> bool:
        """Finish the tasks and end the thread; False where it has not ended in time."""
        if self._thread.is_alive():
            with suppress(queue.Full):
                self._tasks.put(None, timeout=timeout_s)
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with self._database.errors_logged():
            self._retention.shrink()
        check_at = time.monotonic() + CHECK_S
        ended = False
        while not ended:
            tasks = self._next_tasks()
            self._carry_out(tasks)
            ended = None in tasks
            if not ended and time.monotonic() >= check_at:
                check_at = time.monotonic() + CHECK_S
                with self._database.errors_logged():
                    self._retention.delete_stale(_CHECKED)
                    self._retention.empty_journal()

    def _next_tasks(self) -> list[_Task]:
        """Wait for tasks; return none after CHECK_S."""
        tasks: list[_Task] = []
        with suppress(queue.Empty):
            tasks.append(self._tasks.get(timeout=CHECK_S))
            if isinstance(tasks[0], NewFeatures | Use) and self._tasks.qsize() < _MAX_TOGETHER:
                # written together they cost half as much, and interrupt the computing threads less often
                self._asked.wait(GATHER_S)
            while len(tasks) < _MAX_TOGETHER:
                tasks.append(self._tasks.get_nowait())
        return tasks

    def _carry_out(self, tasks: Sequence[_Task]) -> None:
        images = [task for task in tasks if isinstance(task, NewFeatures)]
        uses = [task for task in tasks if isinstance(task, Use)]
        if images or uses:
            with self._database.errors_logged():
                self._write(images, uses)
        for task in tasks:
            if isinstance(task, threading.Event):
                self._asked.clear()
                task.set()

    def _write(self, images: Sequence[NewFeatures], uses: Sequence[Use]) -> None:
        if images and shutil.disk_usage(self._database.file.parent).free < SPARE_BYTES:
            raise OSError(errno.ENOSPC, "too little room left on the disk")
        day = retention.today()
        with self._database.transaction() as connection:
            for image in images:
                self._insert(connection, image, day)
            connection.executemany(
                "UPDATE images SET used = ? WHERE id = ? AND state = ?", [(day, *use) for use in uses]
            )

    def _insert(self, connection: sqlite3.Connection, image: NewFeatures, day: int) -> None:
        whose, packed = (image.path, self._retention.note_root(image.root), self._maker), pack(image.features)
        if connection.execute("DELETE FROM images WHERE path = ? AND root = ? AND maker = ?", whose).rowcount:
            self._retention.note_deletion()
        self._retention.make_room(connection)
        number = connection.execute(
            "INSERT INTO images (path, root, maker, state, used) VALUES (?, ?, ?, ?, ?)", (*whose, image.state, day)
        ).lastrowid
        connection.execute(
            f"INSERT INTO features (id, crc, data, key, {SIZES}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (number, checksum(image.path, image.state, packed), packed.data, packed.key, *packed.sizes),
        )


def checksum(path: str, state: str, packed: Packed) -> int:
    """Return a checksum of all that is kept of an image."""
    return zlib.crc32(packed.data, zlib.crc32(repr((path, state, packed.sizes, packed.key)).encode()))
