"""Telling a folder of images that is away, or the wrong one, from announced names that are wrong."""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from imagetools.errors import ImageError, ImageRootUnavailable
from imagetools.folder import Skipped, find_images
from imagetools.image_root import ImageRoot

REMEMBERED = 16
LOOKED_AT = 100
"""Files of the folder that are tried, where no image is known."""


class KnownImages:
    """Images that have been read before, by which the folder is tried. Thread-safe."""

    def __init__(self, images: ImageRoot, recorded: Callable[[], Iterable[str]] = tuple) -> None:
        """`recorded` gives paths that were read before this process began; asked for only in doubt."""
        self._images = images
        self._recorded = recorded
        self._read: deque[str] = deque(maxlen=REMEMBERED)

    def note(self, relative_path: str) -> None:
        """Remember an image that was just read."""
        self._read.append(relative_path)

    def away(self) -> str | None:
        """Why the folder cannot be the one that it was; None where an image that is known to be there can be read.

        Where none is known, any image in the folder does.
        """
        known = list(dict.fromkeys(self._read)) or list(dict.fromkeys(self._recorded()))
        try:
            if known:
                return self._first_error(known)
            found = list(islice(find_images(self._images.folder, on_skipped=_pass_over), LOOKED_AT))
            if not found:
                return f"{self._images.folder} holds no image"
            return self._first_error(found)
        except ImageRootUnavailable as exc:
            return str(exc)

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
            f"none of {len(errors)} images that should be in {self._images.folder} can be read, such as {errors[0]}: "
            "is it the right folder?"
        )


def _pass_over(_skipped: Skipped) -> None:
    """What cannot be named is no image to try."""
