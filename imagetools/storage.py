"""What every place of images can do, be it a folder, a store of objects or a web server."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from imagetools.folder import Skipped


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What is known of a file without reading it.

    state     a text that is another one when the bytes may be others; None where that cannot be known
    modified  time of the last change; None where it is not known
    """

    state: str | None
    modified: datetime | None


class ImageStorage(ABC):
    """A place of image files, which paths are relative to. Thread-safe.

    Every path may be wrong, by accident or on purpose: that is an `ImageError`. A place that does not answer is
    `ImageRootUnavailable`.

    name     of the place, for people, and to tell it from others: a folder's path, or an address
    folder   the folder, where it is one
    readers  files to read at a time, so that waiting for one holds up nothing
    """

    name: str
    folder: Path | None = None
    readers: int

    @abstractmethod
    def read(self, path: str, limit: int) -> tuple[bytes, str | None]:
        """Return the bytes of a file and the state that they belong to, None where that is not known.

        limit  bytes of a file; ImageTooLarge beyond them
        MissingImage, OutsideRoot, UnreadableImage, UnsupportedImage, ImageRootUnavailable.
        """

    @abstractmethod
    def status(self, path: str) -> FileStatus:
        """Look at a file without reading it; raises as `read` does."""

    @abstractmethod
    def state(self, path: str) -> str | None:
        """Return the state alone, at the least cost; None where there is no such file, or that cannot be known.

        The path was read before, or will be, so it need not be checked. ImageRootUnavailable.
        """

    @abstractmethod
    def images(self, on_skipped: Callable[[Skipped], None] | None = None) -> Iterator[str]:
        """Yield every image, as `find_images` does for a folder. ImageRootUnavailable where it cannot be listed."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Return whether the place holds nothing; also where it cannot be listed at all. ImageRootUnavailable."""

    @abstractmethod
    def require(self) -> None:
        """Check that the place is there and holds something. ImageRootUnavailable."""
