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

    def save(self, index: Index, log_id: str, offset: int) -> None:
        """Write a snapshot and keep the newest MAX_KEPT. A failure is only logged: the topic still has everything."""
        began = time.monotonic()
        draft = self.scratch / f"index-{log_id}-{offset}"
        try:
            index.save(draft, {"saved": time.time() * 1000})
            draft.rename(self._folder / draft.name)
        except (OSError, RuntimeError) as exc:
            self._scratch.remove(draft)
            if not (self._folder / draft.name).exists():
                log.warning("search: no snapshot at offset %d: %s; the next start takes longer", offset, exc)
            return
        kept = {folder for _, folder in self._of(log_id)[-MAX_KEPT:]}
        for folder in self._folder.glob("index-*"):
            if folder not in kept and NAME.fullmatch(folder.name):
                self._scratch.remove(folder)
        log.info("search: snapshot at offset %d, %d images, %.1f s", offset, len(index), time.monotonic() - began)

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


def _changed(path: Path) -> float:
    """Return when the path was renamed or otherwise changed; 0 when it is gone."""
    try:
        return path.lstat().st_ctime
    except OSError:
        return 0.0
