"""Folders of single processes inside a folder that several processes share.

A process holds a lock (flock) in its folder while it runs, and the system releases the lock however the process ends;
other containers on the machine see it and, on NFS, other machines. The next process removes folders without an owner.
A folder without a lock, as on a file system that has none, goes once nothing in it has changed for UNLOCKED_S.
"""

import fcntl
import logging
import os
import shutil
import tempfile
import time
import uuid
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX = ".running-"
LOCK = "lock"
LEFT = (f"{PREFIX}*", ".index-*")
"""What a killed process leaves; versions before the lock wrote snapshots in the second."""

UNLOCKED_S = 25 * 24 * 60 * 60.0
"""A folder without a lock may belong to an earlier version that still runs; no snapshot as old as this is used."""


class ProcessFolder:
    """A folder that this process alone writes to."""

    def __init__(self, shared: Path) -> None:
        """Make the folder, and remove those whose process is gone. OSError where it cannot be made."""
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=shared))
        self._lock = _lock(self.folder)
        for pattern in LEFT:
            for other in shared.glob(pattern):
                if other != self.folder and _is_left(other):
                    self.remove(other)
                    log.info("removed %s, which a process that is gone had left", other)

    def remove(self, path: Path) -> None:
        """Remove a file or a folder, which others see vanish at once; one that is not there is no error."""
        # moved first, so that nobody reads a folder that is half gone
        gone = self.folder / f"gone-{uuid.uuid4().hex}"
        try:
            path.rename(gone)
        except OSError as exc:
            log.debug("%s stays: %s", path, exc.strerror)
            return
        if gone.is_dir() and not gone.is_symlink():
            shutil.rmtree(gone, ignore_errors=True)
        else:
            gone.unlink()

    def close(self) -> None:
        """Remove the folder and release its lock."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _lock(folder: Path) -> int | None:
    """Lock the folder until the descriptor is closed; None where the file system has no locks."""
    draft = folder / f"{LOCK}.new"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        log.info("%s: no locks (%s); what is left there by processes that are gone stays", folder.parent, exc.strerror)
        os.close(descriptor)
        return None
    # renamed once it is locked, so that nobody finds it unlocked
    draft.rename(folder / LOCK)
    return descriptor


def _is_left(folder: Path) -> bool:
    """Tell whether the process that made the folder is gone."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return _age_s(folder) > UNLOCKED_S
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _age_s(folder: Path) -> float:
    """Return the seconds since anything in the folder last changed."""
    try:
        changed = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except OSError:
        return 0.0
    return time.time() - changed
