"""The SHA-256 of image files, each read once."""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from cli.report.file_looks import threads_for
from imagetools.errors import ImageError, ImageRootUnavailable
from imagetools.image_root import ImageRoot


class FileContents:
    """Gives the SHA-256 of files below a folder, as they were when first asked for."""

    def __init__(self, images: ImageRoot) -> None:
        self._images = images
        self._known: dict[str, str] = {}

    def of(self, path: str) -> str:
        """Return the digest in hex; empty for a file that cannot be read."""
        if path not in self._known:
            self._known[path] = self._read(path)
        return self._known[path]

    def read_all(self, paths: Iterable[str], on_read: Callable[[int, int], None] | None = None) -> None:
        """Read many files, several at a time.

        on_read  called after each with how many are read, of how many
        """
        unknown = [path for path in dict.fromkeys(paths) if path not in self._known]
        with ThreadPoolExecutor(threads_for(self._images)) as pool:
            for done, (path, digest) in enumerate(zip(unknown, pool.map(self._read, unknown), strict=True), 1):
                self._known[path] = digest
                if on_read is not None:
                    on_read(done, len(unknown))

    def _read(self, path: str) -> str:
        try:
            return hashlib.sha256(self._images.read(path)).hexdigest()
        except (ImageError, ImageRootUnavailable):
            return ""
