"""A folder of one process inside a folder that several may share, and the end of those whose process is gone.

Its owner holds a lock (flock) while it runs, and the system releases it however the process ends; the
lock is seen from other containers on the machine and, on NFS, from other machines. What has no lock, since the file
system has none or an earlier version made it, goes when nothing in it has changed for UNLOCKED_S.
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
"""What a killed process leaves; the second is what versions before the lock wrote snapshots in."""

UNLOCKED_S = 25 * 24 * 60 * 60.0
"""What has no lock may belong to an earlier version that still runs; a snapshot as old as this is not used any more."""


class Scratch:
    """A folder of this process's own."""

    def __init__(self, shared: Path) -> None:
        """OSError where it cannot be made."""
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=shared))
        self._lock = _lock(self.folder)
        for pattern in LEFT:
            for other in shared.glob(pattern):
                if other != self.folder and _is_left(other):
                    self.remove(other)
                    log.info("removed %s, which a process that is gone had left", other)

    def remove(self, path: Path) -> None:
        """Remove a file or a folder, at once for those who look at it; one that is not there is no error."""
        # moved first, so that nobody reads one that is half gone
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
        """Remove the folder, and let go of its lock."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _lock(folder: Path) -> int | None:
    """A lock on the folder, held until it is closed; None where the file system has none."""
    draft = folder / f"{LOCK}.new"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        log.info("%s: no locks (%s); what is left there by processes that are gone stays", folder.parent, exc.strerror)
        os.close(descriptor)
        return None
    # under its name only now: nobody finds it without its lock
    draft.rename(folder / LOCK)
    return descriptor


def _is_left(folder: Path) -> bool:
    """Whether the process that made the folder is gone."""
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
    """Since anything in it last changed."""
    try:
        changed = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except OSError:
        return 0.0
    return time.time() - changed
