"""Images in a folder, which no path can leave."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from imagetools.errors import ImageRootUnavailable, MissingImage, OutsideRoot, UnreadableImage
from imagetools.folder import Skipped, find_images
from imagetools.paths import open_file, read_capped, require_file, require_path, shown
from imagetools.storage import FileStatus, ImageStorage

_NO_SUCH_FILE: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ELOOP}
)
_NO_RIGHTS: Final = frozenset({errno.EACCES, errno.EPERM})
_FOLDER_AWAY: Final = frozenset(
    {
        errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT,
        errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH,
    }
)  # fmt: skip


def file_state(folder: Path, path: str) -> str | None:
    """Return inode, size and times of last change as one text; None without a file."""
    try:
        return _state_of(os.stat(os.path.join(folder, path)))
    except (OSError, ValueError):
        return None


def _state_of(status: os.stat_result) -> str:
    # a program may reset the time of modification, such as one that turns a photo by its EXIF, but not that of change
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


class FolderStorage(ImageStorage):
    """A folder of images.

    Symbolic links inside it are followed as long as they stay inside. Nothing is kept open between calls, so that the
    folder can be unmounted and come back.
    """

    readers = 8

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self.folder: Path = folder

    def read(self, path: str, limit: int) -> tuple[bytes, str | None]:
        """Return bytes and state; never waits for a pipe or a device."""
        name = shown(path)
        with self._blame(name):
            root, parts = self._inside(name, path)
            before = file_state(self.folder, path)
            with os.fdopen(open_file(name, root, parts), "rb", buffering=0) as file:
                data = read_capped(name, file.fileno(), limit)
        # of a file that changed while it was read, nobody knows which state was read
        return data, before if file_state(self.folder, path) == before else None

    def status(self, path: str) -> FileStatus:
        """Look at a plain file. It may be another one when it is used: `read` checks while it opens."""
        name = shown(path)
        with self._blame(name):
            root, parts = self._inside(name, path)
            found = os.stat(Path(root, *parts), follow_symlinks=False)
            require_file(name, found.st_mode)
        return FileStatus(_state_of(found), datetime.fromtimestamp(found.st_mtime, UTC))

    def state(self, path: str) -> str | None:
        """Return the state of whatever the path leads to."""
        return file_state(self.folder, path)

    def images(self, on_skipped: Callable[[Skipped], None] | None = None) -> Iterator[str]:
        """As `find_images`."""
        return find_images(self.folder, on_skipped=on_skipped)

    def is_empty(self) -> bool:
        """Look for anything in the folder."""
        try:
            with os.scandir(self.folder) as entries:
                return next(entries, None) is None
        except OSError as exc:
            raise ImageRootUnavailable(f"the folder of images {self.folder}: {exc.strerror}") from exc

    def require(self) -> None:
        """Refuse a root that is gone or empty, as that of an unmounted volume is."""
        if self.is_empty():
            raise ImageRootUnavailable(f"the folder of images {self.folder} is empty")

    def _inside(self, name: str, path: str) -> tuple[str, Sequence[str]]:
        """Return the real root, and the parts of the real path below it."""
        require_path(name, path)
        root = os.path.realpath(self.folder)
        real = os.path.realpath(os.path.join(root, path))
        if os.path.commonpath((root, real)) != root:
            raise OutsideRoot(name, "leads out of the folder of images through a symbolic link")
        return root, Path(real).relative_to(root).parts

    @contextmanager
    def _blame(self, name: str) -> Iterator[None]:
        """Tell a missing or unreadable file from a missing or unreadable folder."""
        try:
            yield
        except OSError as exc:
            if exc.errno in _NO_SUCH_FILE:
                self.require()
                raise MissingImage(name, "there is no such file") from exc
            if exc.errno in _NO_RIGHTS:
                self.require()
                raise UnreadableImage(name, f"may not be read by this user: {exc.strerror}") from exc
            if exc.errno in _FOLDER_AWAY:
                raise ImageRootUnavailable(f"{name} in {self.folder}: {exc.strerror}") from exc
            raise
