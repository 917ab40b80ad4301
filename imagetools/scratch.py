"""Temporary folders that do not outlast their process, however it ends.

Each holds a file that its process keeps locked. The system lets go of the lock with the process, also when that is
killed, so the next process to start can tell what was left behind from what is in use, and removes it.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final

LOCK: Final = ".imagetools-lock"
PREFIX: Final = "imagetools-"


class Scratch:
    """A temporary folder, removed by `close`; if its process is killed, by the next `sweep` of another.

    path  the folder
    """

    def __init__(self, prefix: str = PREFIX, parent: Path | None = None) -> None:
        """Sweep the parent, then make a folder in it.

        prefix  of the folder's name; sweeping goes by it
        parent  None: the system's folder for temporary files
        """
        self._parent = parent or Path(tempfile.gettempdir())
        sweep(self._parent, PREFIX if prefix.startswith(PREFIX) else prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=self._parent))
        draft = self.path / f"{LOCK}.new"
        self._lock: int | None = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        # a file system that has no locks gives no lock file either, and such a folder is never swept
        with contextlib.suppress(OSError):
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # renamed when it is locked: between the two, a sweep would take the folder for one left behind
            draft.rename(self.path / LOCK)

    def close(self) -> None:
        """Remove the folder, as far as the system lets us. Idempotent."""
        if self._lock is not None:
            _remove(self.path)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def sweep(parent: Path | None = None, prefix: str = PREFIX) -> list[Path]:
    """Remove the scratch folders of this user whose process is gone; returns them."""
    try:
        with os.scandir(parent or tempfile.gettempdir()) as entries:
            found = [Path(entry.path) for entry in entries if entry.name.startswith(prefix) and _is_ours(entry)]
    except OSError:
        return []
    return [folder for folder in found if _remove_abandoned(folder)]


def _is_ours(entry: os.DirEntry[str]) -> bool:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def _remove_abandoned(folder: Path) -> bool:
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(folder)
    except OSError:
        return False
    finally:
        os.close(lock)
    return not folder.exists()


def _remove(folder: Path) -> None:
    """All that is in it, then the lock: what is interrupted half-way is known to the next sweep."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name != LOCK:
                os.unlink(entry.path)
    shutil.rmtree(folder, ignore_errors=True)
