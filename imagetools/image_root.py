"""The folder of images, which no path can leave.

The folder is other people's: every name in it may be wrong, by accident or on purpose. Errors that the input is to
blame for are an `ImageError`; a folder that does not answer is `ImageRootUnavailable`.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from PIL import Image

from imagetools.decode import DEFAULT_CONFIG, Box, DecodeConfig
from imagetools.errors import ImageRootUnavailable, MissingImage, OutsideRoot, UnreadableImage
from imagetools.opener import FileOpener, KeptFrames
from imagetools.paths import open_file, read_capped, require_file, require_path, shown

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


class ImageRoot:
    """The folder of all images, which their paths are relative to.

    Symbolic links inside it are followed as long as they stay inside. Nothing is kept open between calls, so that the
    folder can be unmounted and come back. Thread-safe.
    """

    def __init__(self, folder: Path, config: DecodeConfig = DEFAULT_CONFIG) -> None:
        self.folder = folder
        self.config = config

    def resolve(self, relative_path: str) -> Path:
        """Return the real path of an image file.

        MissingImage, OutsideRoot, UnsupportedImage where it is no plain file, ImageRootUnavailable. The path may lead
        elsewhere when it is used: `read` checks while it opens.
        """
        name = shown(relative_path)
        with self._blame(name):
            root, parts = self._inside(name, relative_path)
            path = Path(root, *parts)
            require_file(name, os.stat(path, follow_symlinks=False).st_mode)
        return path

    def read(self, relative_path: str) -> bytes:
        """Return the bytes of an image file.

        Raises as `resolve`, and ImageTooLarge. Never waits for a pipe or a device.
        """
        name = shown(relative_path)
        with self._blame(name):
            root, parts = self._inside(name, relative_path)
            with os.fdopen(open_file(name, root, parts), "rb", buffering=0) as file:
                return read_capped(name, file.fileno(), self.config.max_bytes)

    def open(self, relative_path: str, *, box: Box | None = None) -> Image.Image:
        """Read and `decode`; raises what both raise."""
        return self.opener(relative_path)(box)

    def opener(self, relative_path: str, kept: KeptFrames | None = None) -> FileOpener:
        """Return what opens the image, now or later; calls read the file, and raise what `open` raises.

        kept  as in `FileOpener`
        """
        return FileOpener(lambda: self.read(relative_path), shown(relative_path), self.config, kept)

    def _inside(self, name: str, relative_path: str) -> tuple[str, Sequence[str]]:
        """Return the real root, and the parts of the real path below it."""
        require_path(name, relative_path)
        root = os.path.realpath(self.folder)
        path = os.path.realpath(os.path.join(root, relative_path))
        if os.path.commonpath((root, path)) != root:
            raise OutsideRoot(name, "leads out of the folder of images through a symbolic link")
        return root, Path(path).relative_to(root).parts

    @contextmanager
    def _blame(self, name: str) -> Iterator[None]:
        """Tell a missing or unreadable file from a missing or unreadable folder."""
        try:
            yield
        except OSError as exc:
            if exc.errno in _NO_SUCH_FILE:
                self._require_root()
                raise MissingImage(name, "there is no such file") from exc
            if exc.errno in _NO_RIGHTS:
                self._require_root()
                raise UnreadableImage(name, f"may not be read by this user: {exc.strerror}") from exc
            if exc.errno in _FOLDER_AWAY:
                raise ImageRootUnavailable(f"{name} in {self.folder}: {exc.strerror}") from exc
            raise

    def _require_root(self) -> None:
        """Refuse a root that is gone or empty, as that of an unmounted volume is."""
        try:
            with os.scandir(self.folder) as entries:
                empty = next(entries, None) is None
        except OSError as exc:
            raise ImageRootUnavailable(f"the folder of images {self.folder}: {exc.strerror}") from exc
        if empty:
            raise ImageRootUnavailable(f"the folder of images {self.folder} is empty")
