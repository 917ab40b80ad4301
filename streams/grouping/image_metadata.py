"""The metadata of the images that a stage knows."""

import sys
from collections.abc import Mapping
from typing import Final

NO_METADATA: Final[Mapping[str, str]] = {}
"""Of all images without metadata, which are most."""


class ImageMetadata:
    """Metadata by path. An image without any takes no memory."""

    def __init__(self) -> None:
        self._by_path: dict[str, Mapping[str, str]] = {}

    def of(self, path: str) -> Mapping[str, str]:
        """Return the metadata of an image."""
        return self._by_path.get(path, NO_METADATA)

    def put(self, path: str, metadata: Mapping[str, str]) -> bool:
        """Set the metadata of an image; return whether it was another before."""
        if metadata == self.of(path):
            return False
        if metadata:
            # a producer gives all its images the same names
            self._by_path[path] = {sys.intern(name): value for name, value in metadata.items()}
        else:
            del self._by_path[path]
        return True

    def forget(self, path: str) -> None:
        """Drop the metadata of an image that is gone."""
        self._by_path.pop(path, None)
