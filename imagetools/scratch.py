"""Temporary folders that do not outlast their process, however it ends.

Each holds a file that its process keeps locked (flock). The system releases the lock when the process ends, even when
it is killed, so the next process can tell abandoned folders from those in use, and removes them. The lock is visible
to other containers on the machine and, on NFS, to other machines.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

log = logging.getLogger(__name__)

LOCK: Final = ".imagetools-lock"
PREFIX: Final = "imagetools-"


@dataclass(frozen=True)
class ScratchPolicy:
    """Which folders a sweep may remove, among those with its prefix.

    lock        name of the locked file
    any_owner   also those of other users
    unlocked_s  also those without a lock file, when nothing in them has changed for this long; None: never
    """

    lock: str = LOCK
    any_owner: bool = False
    unlocked_s: float | None = None


OURS: Final = ScratchPolicy()


class Scratch:
    """A temporary folder, removed by `close`; if its process is killed, by the next `sweep` of another.

    path   the folder
    swept  the abandoned folders that were removed before it was made
    """

    def __init__(self, prefix: str = PREFIX, parent: Path | None = None, policy: ScratchPolicy = OURS) -> None:
        """Sweep the parent, then make a folder in it. OSError.

        prefix  of the folder's name; sweeping goes by it
        parent  None: the system's folder for temporary files
        """
        parent = parent or Path(tempfile.gettempdir())
        self._policy = policy
        self.swept = sweep(parent, PREFIX if prefix.startswith(PREFIX) else prefix, policy)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        self._lock: int | None = _hold(self.path, policy.lock)

    def remove(self, path: Path) -> None:
        """Remove a file or folder on the same file system, at once for its readers. One that is missing is no error."""
        # moved first, so that nobody reads a folder that is half removed
        gone = self.path / f"gone-{uuid.uuid4().hex}"
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
        """Remove the folder as far as the system permits. Idempotent."""
        if self._lock is not None:
            _remove(self.path, self._policy.lock)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def sweep(parent: Path | None = None, prefix: str = PREFIX, policy: ScratchPolicy = OURS) -> list[Path]:
    """Remove the folders whose process is gone, and return them."""
    try:
        with os.scandir(parent or tempfile.gettempdir()) as entries:
            found = [Path(entry.path) for entry in entries if entry.name.startswith(prefix) and _is_ours(entry, policy)]
    except OSError:
        return []
    return [folder for folder in found if _remove_abandoned(folder, policy)]


def _hold(folder: Path, name: str) -> int:
    """Lock a file in the folder; the lock lasts until the descriptor is closed."""
    draft = folder / f"{name}.new"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # renamed when it is locked: before that, a sweep would take the folder for abandoned
        draft.rename(folder / name)
    except OSError as exc:
        # without a lock file, the folder is not swept
        log.info("%s: no locks (%s); folders left there by killed processes stay", folder.parent, exc.strerror)
    return descriptor


def _is_ours(entry: os.DirEntry[str], policy: ScratchPolicy) -> bool:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and (policy.any_owner or status.st_uid == os.getuid())


def _remove_abandoned(folder: Path, policy: ScratchPolicy) -> bool:
    try:
        lock = os.open(folder / policy.lock, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        if policy.unlocked_s is None or _age_s(folder) <= policy.unlocked_s:
            return False
        _remove(folder, policy.lock)
        return not folder.exists()
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(folder, policy.lock)
    except OSError:
        return False
    finally:
        os.close(lock)
    return not folder.exists()


def _age_s(folder: Path) -> float:
    """Return the seconds since anything in the folder last changed."""
    try:
        changed = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except OSError:
        return 0.0
    return time.time() - changed


def _remove(folder: Path, lock: str) -> None:
    """Remove what is in the folder, then the lock: after an interruption the next sweep still knows the folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name != lock:
                os.unlink(entry.path)
    shutil.rmtree(folder, ignore_errors=True)
