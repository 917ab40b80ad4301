"""Tells a place of images that is away, or the wrong one, from wrong announcements."""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from imagetools.errors import ConfigError, ImageError, ImageRootUnavailable
from imagetools.folder import Skipped
from imagetools.image_root import ImageRoot

MAX_REMEMBERED = 16
MAX_TRIED = 100
"""Files that are tried when no image is known."""


class KnownImages:
    """Remembers images that were read, to check later that the place is still the same. Thread-safe."""

    def __init__(self, images: ImageRoot, recorded: Callable[[], Iterable[str]] = tuple) -> None:
        """recorded: returns paths that were read before this process started; called only when needed."""
        self._images = images
        self._recorded = recorded
        self._read: deque[str] = deque(maxlen=MAX_REMEMBERED)

    def note(self, relative_path: str) -> None:
        """Remember an image that was read."""
        self._read.append(relative_path)

    def away(self) -> str | None:
        """Return why the place cannot be the right one; None when a known image can be read.

        When no image is known, any image there will do. A web server has no list of them, so its address is believed.
        """
        known = list(dict.fromkeys(self._read)) or list(dict.fromkeys(self._recorded()))
        try:
            if known:
                return self._first_error(known)
            found = list(islice(self._images.images(_pass_over), MAX_TRIED))
            if not found:
                return f"{self._images.name} holds no image"
            return self._first_error(found)
        except ImageRootUnavailable as exc:
            return str(exc)
        except ConfigError:
            return None

    def _first_error(self, paths: list[str]) -> str | None:
        errors = []
        for path in paths:
            try:
                self._images.read(path)
            except ImageError as exc:
                errors.append(exc)
            else:
                return None
        return (
            f"none of {len(errors)} images that should be in {self._images.name} can be read, such as {errors[0]}: "
            f"is it the right {'address' if self._images.folder is None else 'folder'}?"
        )


def _pass_over(_skipped: Skipped) -> None:
    """Ignore what is no image to try."""
