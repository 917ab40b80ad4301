"""Where all images are: a folder, a store of objects or a web server, which no path can leave.

The images are other people's: every name may be wrong, by accident or on purpose. Errors that the input is to blame for
are an `ImageError`; a place that does not answer is `ImageRootUnavailable`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from imagetools.decode import DEFAULT_CONFIG, Box, DecodeConfig
from imagetools.errors import ConfigError
from imagetools.folder import Skipped
from imagetools.folder_storage import FolderStorage
from imagetools.opener import FileOpener, KeptFrames
from imagetools.paths import shown
from imagetools.places import WEB, parse_place
from imagetools.storage import FileStatus, ImageStorage


class ImageRoot:
    """The place of all images, which their paths are relative to. Thread-safe."""

    def __init__(self, place: Path | str, config: DecodeConfig = DEFAULT_CONFIG, *, private: bool = False) -> None:
        """Read nothing yet.

        place    a folder, or the address of a store: s3://bucket/prefix, gs://, az://, https://host/prefix. A store's
                 endpoint and credentials come from its usual environment variables
        private  allow a web server at a private address, and one without TLS
        ConfigError where the address or what it needs is wrong.
        """
        self.config = config
        self._storage = _storage(place, private)

    @property
    def name(self) -> str:
        """The place, for people, and to tell it from others."""
        return self._storage.name

    @property
    def folder(self) -> Path | None:
        """The folder, where the place is one."""
        return self._storage.folder

    @property
    def readers(self) -> int:
        """Files to read at a time, so that waiting for one holds up nothing."""
        return self._storage.readers

    def read(self, relative_path: str) -> bytes:
        """Return the bytes of an image file, at most `config.max_bytes`; raises as `ImageStorage.read`."""
        return self.read_with_state(relative_path)[0]

    def read_with_state(self, relative_path: str) -> tuple[bytes, str | None]:
        """Return the bytes of an image file, and the `state` that they belong to; None where that is not known."""
        return self._storage.read(relative_path, self.config.max_bytes)

    def status(self, relative_path: str) -> FileStatus:
        """Look at an image file without reading it; raises as `read`."""
        return self._storage.status(relative_path)

    def state(self, relative_path: str) -> str | None:
        """Return a text that is another one when the file may have changed; None without a file.

        ImageRootUnavailable.
        """
        return self._storage.state(relative_path)

    def images(self, on_skipped: Callable[[Skipped], None] | None = None) -> Iterator[str]:
        """Yield every image below the root, as `find_images` does. ImageRootUnavailable where it cannot be listed."""
        return self._storage.images(on_skipped)

    def is_empty(self) -> bool:
        """Return whether nothing is there, as far as the place can tell. ImageRootUnavailable."""
        return self._storage.is_empty()

    def require(self) -> None:
        """Check that the place is there and not empty. ImageRootUnavailable."""
        self._storage.require()

    def open(self, relative_path: str, *, box: Box | None = None) -> Image.Image:
        """Read and `decode`; raises what both raise."""
        return self.opener(relative_path)(box)

    def opener(self, relative_path: str, kept: KeptFrames | None = None) -> FileOpener:
        """Return what opens the image, now or later; calls read the file, and raise what `open` raises.

        kept  as in `FileOpener`
        """
        return FileOpener(lambda: self.read(relative_path), shown(relative_path), self.config, kept)


def _storage(place: Path | str, private: bool) -> ImageStorage:
    try:
        parsed = parse_place(place) if isinstance(place, str) else place
    except ValueError as exc:
        raise ConfigError(f"{place}: {exc}") from exc
    if isinstance(parsed, Path):
        return FolderStorage(parsed)
    # who has a folder loads no client of stores
    if parsed.startswith(tuple(f"{scheme}:" for scheme in WEB)):
        from imagetools.web_storage import WebStorage  # noqa: PLC0415

        return WebStorage(parsed, private=private)
    from imagetools.object_storage import ObjectStorage  # noqa: PLC0415

    return ObjectStorage(parsed)
