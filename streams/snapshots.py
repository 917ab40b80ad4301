"""Snapshots of the index in INDEX_DIR: a folder each, named by the log's identity and offset."""

import logging
import re
import shutil
import tempfile
import time
from pathlib import Path

from imagetools.errors import IndexMismatch
from imagetools.index import Index, IndexConfig
from streams.topics import DAY_MS

log = logging.getLogger(__name__)

KEPT = 2
MAX_AGE_MS = 25 * DAY_MS
"""Well below the 30 days that the log keeps the tombstones which an older snapshot would miss."""

NAME = re.compile(r"index-(?P<log>[\w-]+)-(?P<offset>\d+)")


class Snapshots:
    """Saves and loads the index; several processes may share the folder."""

    def __init__(self, folder: Path, config: IndexConfig) -> None:
        """OSError where the folder cannot be made or written."""
        self._folder = folder
        self._config = config
        folder.mkdir(parents=True, exist_ok=True)
        self._scratch = tempfile.TemporaryDirectory(prefix=".running-", dir=folder, ignore_cleanup_errors=True)

    @property
    def scratch(self) -> Path:
        """A folder of this process for NGT's own files."""
        return Path(self._scratch.name)

    def newest(self, log_id: str, *, at_most: int) -> tuple[Index, int] | None:
        """The index of the newest usable snapshot of that log, and its offset; None where there is none."""
        for offset, folder in reversed(self._of(log_id)):
            if offset > at_most:
                continue
            try:
                index, info = Index.load(folder, self._config, self.scratch)
            except IndexMismatch as exc:
                log.warning("snapshot passed over: %s", exc)
                continue
            if time.time() * 1000 - info["saved"] > MAX_AGE_MS:
                log.warning("snapshot passed over: %s is older than the log keeps removals", folder)
                index.close()
                continue
            return index, offset
        return None

    def save(self, index: Index, log_id: str, offset: int) -> None:
        """Write a snapshot; all but the newest ones go."""
        began = time.monotonic()
        try:
            index.save(self._folder / f"index-{log_id}-{offset}", {"saved": time.time() * 1000})
        except FileExistsError:
            return
        for folder in self._folder.glob("index-*"):
            if folder not in {kept for _, kept in self._of(log_id)[-KEPT:]} and NAME.fullmatch(folder.name):
                shutil.rmtree(folder, ignore_errors=True)
        log.info("search: snapshot at offset %d, %d images, %.1f s", offset, len(index), time.monotonic() - began)

    def close(self) -> None:
        """Remove the scratch folder."""
        self._scratch.cleanup()

    def _of(self, log_id: str) -> list[tuple[int, Path]]:
        found = ((NAME.fullmatch(folder.name), folder) for folder in self._folder.iterdir())
        return sorted((int(match["offset"]), folder) for match, folder in found if match and match["log"] == log_id)
