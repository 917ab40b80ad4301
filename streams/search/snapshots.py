"""Snapshots of the index in INDEX_DIR: one folder each, named by the log's id and offset.

A damaged snapshot is renamed to `….damaged`; an older one or the log replaces it.
"""

import logging
import re
import time
from pathlib import Path

from imagetools.errors import IndexMismatch, SnapshotDamaged
from imagetools.index.config import IndexConfig
from imagetools.index.index import Index
from imagetools.scratch import Scratch, ScratchPolicy, sweep
from streams.topics import DAY_MS

log = logging.getLogger(__name__)

MAX_KEPT = 2
MAX_DAMAGED = 2
"""How many snapshots are kept, and how many damaged ones, for a person to look at."""

MAX_AGE_MS = 25 * DAY_MS
"""Well below the 30 days that the log keeps tombstones: an index from an older snapshot could miss a removal."""

NAME = re.compile(r"index-(?P<log>[\w-]+)-(?P<offset>\d+)")
DAMAGED = ".damaged"

RUNNING = ".running-"
"""Prefix of each process's own folder."""

DRAFT = ".index-"
"""Prefix of the folders in which an earlier version wrote snapshots; they have no lock file."""

SHARED = ScratchPolicy(lock="lock", any_owner=True, unlocked_s=MAX_AGE_MS / 1000)
"""Processes of several users may share INDEX_DIR. A folder without a lock file may belong to a running process of an
earlier version, so it stays until a snapshot in it would be too old to use."""


class Snapshots:
    """Saves and loads the index. Several processes may share the folder."""

    def __init__(self, folder: Path, config: IndexConfig) -> None:
        """Make the folder. OSError when it cannot be made or written."""
        self._folder = folder
        self._config = config
        folder.mkdir(parents=True, exist_ok=True)
        self._scratch = Scratch(RUNNING, folder, SHARED)
        for left in (*self._scratch.swept, *sweep(folder, DRAFT, SHARED)):
            log.info("removed %s, left by a process that is gone", left)

    @property
    def scratch(self) -> Path:
        """The folder for NGT's own files, of this process alone."""
        return self._scratch.path

    def newest(self, log_id: str, *, at_most: int) -> tuple[Index, int] | None:
        """Load the newest usable snapshot of a log; return its index and offset, or None.

        at_most  the greatest offset to load
        """
        for offset, folder in reversed(self._of(log_id)):
            if offset > at_most:
                continue
            try:
                index, info = Index.load(folder, self._config, self.scratch)
            except SnapshotDamaged as exc:
                log.warning("snapshot set aside, which costs time and loses nothing: %s", exc)
                self._set_aside(folder)
                continue
            except IndexMismatch as exc:
                log.warning("snapshot passed over: %s", exc)
                continue
            if time.time() * 1000 - info.get("saved", 0) > MAX_AGE_MS:
                log.warning("snapshot passed over: %s is older than the log keeps removals", folder)
                index.close()
                continue
            return index, offset
        return None

    def newest_time(self, log_id: str) -> float:
        """Return when the newest snapshot of a log was written, seconds since 1970; 0 where there is none."""
        return max((_changed(folder) for _, folder in self._of(log_id)), default=0.0)

    def begin(self, index: Index, log_id: str, offset: int) -> "PendingSnapshot":
        """Begin to write a snapshot beside the work; changes of the index from now on are not in it."""
        return PendingSnapshot(self, index, log_id, offset)

    def save(self, index: Index, log_id: str, offset: int) -> None:
        """Write a snapshot and keep the newest MAX_KEPT. A failure is only logged: the topic still has everything."""
        pending = self.begin(index, log_id, offset)
        pending.finish()

    def keep(self, draft: Path, log_id: str) -> None:
        """Move a snapshot to its place and remove those before the newest MAX_KEPT of its log. OSError."""
        draft.rename(self._folder / draft.name)
        kept = {folder for _, folder in self._of(log_id)[-MAX_KEPT:]}
        for folder in self._folder.glob("index-*"):
            if folder not in kept and NAME.fullmatch(folder.name):
                self._scratch.remove(folder)

    def drop(self, draft: Path) -> bool:
        """Remove what is left of a snapshot; tell whether one of this name is there already."""
        self._scratch.remove(draft)
        return (self._folder / draft.name).exists()

    def close(self) -> None:
        """Remove this process's folder."""
        self._scratch.close()

    def _set_aside(self, folder: Path) -> None:
        try:
            self._scratch.remove(folder.with_name(folder.name + DAMAGED))
            folder.rename(folder.with_name(folder.name + DAMAGED))
        except OSError as exc:
            # another process may have set it aside first, or the folder be read-only
            log.warning("%s: stays where it is: %s", folder, exc.strerror or exc)
        aside = sorted(self._folder.glob(f"index-*{DAMAGED}"), key=_changed)
        for old in aside[:-MAX_DAMAGED]:
            self._scratch.remove(old)

    def _of(self, log_id: str) -> list[tuple[int, Path]]:
        found = ((NAME.fullmatch(folder.name), folder) for folder in self._folder.iterdir())
        return sorted((int(match["offset"]), folder) for match, folder in found if match and match["log"] == log_id)


class PendingSnapshot:
    """A snapshot that is being written."""

    def __init__(self, snapshots: Snapshots, index: Index, log_id: str, offset: int) -> None:
        """Begin."""
        self._snapshots = snapshots
        self._log_id, self._offset = log_id, offset
        self._images = len(index)
        self._draft = snapshots.scratch / f"index-{log_id}-{offset}"
        self._began = time.monotonic()
        self._saving = index.begin_save(self._draft, {"saved": time.time() * 1000})
        self._stopped = time.monotonic() - self._began

    def is_written(self) -> bool:
        """Tell whether `finish` would not wait."""
        return self._saving.ended()

    def finish(self) -> None:
        """Wait for it and put it in its place. A failure is only logged: the topic still has everything."""
        reason = self._saving.wait()
        try:
            if reason:
                raise OSError(reason)
            self._snapshots.keep(self._draft, self._log_id)
        except OSError as exc:
            if not self._snapshots.drop(self._draft):
                log.warning("search: no snapshot at offset %d: %s; the next start takes longer", self._offset, exc)
            return
        took = time.monotonic() - self._began
        log.info(
            "search: snapshot at offset %d, %d images, %.1f s, of which search stood still for %.2f",
            self._offset, self._images, took, self._stopped,
        )  # fmt: skip


def _changed(path: Path) -> float:
    """Return when the path was renamed or otherwise changed; 0 when it is gone."""
    try:
        return path.lstat().st_ctime
    except OSError:
        return 0.0
