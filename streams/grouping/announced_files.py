"""Image files that still have the bytes that were announced."""

import hashlib
from typing import Final

from cachetools import LRUCache

from imagetools.grouping.records import ImageKey
from imagetools.image_root import ImageRoot

MAX_REMEMBERED: Final = 10_000
"""Files of which the state is remembered, so that they are not read again."""


class AnnouncedFiles:
    """Compares files with the SHA-256 that images are known by; for one thread.

    images  the place that they are in
    """

    def __init__(self, images: ImageRoot) -> None:
        self.images = images
        self._states: LRUCache[ImageKey, str] = LRUCache(MAX_REMEMBERED)

    def read(self, image: ImageKey) -> bytes | None:
        """Return the bytes of an image; None where its file has others now. ImageError, ImageRootUnavailable."""
        data, state = self.images.read_with_state(image.path)
        if hashlib.sha256(data).hexdigest() != image.content:
            return None
        if state is not None:
            self._states[image] = state
        return data

    def unchanged(self, image: ImageKey) -> bool:
        """Return whether a file has the bytes of its image; reads it unless it is as it was when they were compared.

        ImageError, ImageRootUnavailable.
        """
        state = self._states.get(image)
        if state is not None and self.images.state(image.path) == state:
            return True
        return self.read(image) is not None
