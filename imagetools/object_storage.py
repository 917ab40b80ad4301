"""Images in a store of objects: S3 and what speaks like it, Google's and Azure's.

obstore reads endpoint and credentials from the variables that each store's own tools use, and repeats requests that
fail for no reason of ours.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import obstore
from obstore.exceptions import BaseError, InvalidPathError
from obstore.store import from_url

from imagetools.errors import (
    ConfigError,
    ImageRootUnavailable,
    ImageTooLarge,
    ImageToolsError,
    MissingImage,
    UnreadableImage,
    UnsupportedImage,
)
from imagetools.folder import REPORT_MARK, Skipped, skipped_as_hidden, skipped_by_name, why_no_image
from imagetools.formats import IMAGE_SUFFIXES, SIGNATURE_BYTES
from imagetools.object_keys import key_of
from imagetools.paths import shown
from imagetools.storage import FileStatus, ImageStorage

if TYPE_CHECKING:
    from obstore import ObjectMeta

CLIENT: Final[dict[str, Any]] = {
    # an endpoint in the cluster may have no TLS; without an endpoint, the address of a store always has it
    "allow_http": True,
    "connect_timeout": "5s",
    # between two pieces of a body
    "read_timeout": "10s",
    # 64 MiB, the largest image, at 1 MB/s
    "timeout": "64s",
}
RETRY: Final[dict[str, Any]] = {
    "max_retries": 10,
    # then the stage waits, and says what for
    "retry_timeout": timedelta(seconds=10),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=3), "base": 2},
}

_STATUS: Final = re.compile(r"status code: (\d{3})([^:\n]*)")
_SAID: Final = re.compile(r"<(Code|Message)>([^<]{1,300})<")
_SYSTEM_SAID: Final = re.compile(r'message: "([^"]{1,300})"|(InvalidCertificate\(?\w*|InvalidContentType|TimedOut)')
_TARGET: Final = re.compile(r"\b(https?://[^\s?]+)")
METADATA_PATHS: Final = ("/latest/api/token", "/computeMetadata/", "/metadata/identity")
"""Where machines in the three clouds get their own credentials."""

NO_CREDENTIALS: Final = (
    "; no credentials are in the environment, so those of this machine are asked for there (docs/deploy.md names the "
    "variables)"
)

_PASSING: Final = frozenset({408, 425, 429})
"""Statuses of the 4xx that say nothing of the request."""


class BadKey(ImageToolsError):
    """A store holds a key that is no path, such as one with two slashes in a row."""


class ObjectStorage(ImageStorage):
    """The objects below a prefix of a bucket."""

    readers = 32

    def __init__(self, address: str) -> None:
        """ConfigError where the address, or a variable that it needs, is wrong."""
        self.name = address
        try:
            self._store = from_url(address, client_options=CLIENT, retry_config=RETRY)  # type: ignore[call-overload]
        except (BaseError, ValueError) as exc:
            raise ConfigError(f"{address}: {reason_of(exc)}") from exc

    def read(self, path: str, limit: int) -> tuple[bytes, str | None]:
        """Return bytes and state of one answer, so that they belong together."""
        name, key = shown(path), key_of(path)
        with self._blame(name):
            found = obstore.get(self._store, key)
            if found.meta["size"] > limit:
                raise ImageTooLarge(name, f"{found.meta['size']:,} bytes, the limit is {limit:,}")
            return bytes(found.bytes()), _state_of(found.meta)

    def status(self, path: str) -> FileStatus:
        """Ask for an object's headers."""
        key = key_of(path)
        with self._blame(shown(path)):
            found = obstore.head(self._store, key)
        return FileStatus(_state_of(found), found["last_modified"])

    def state(self, path: str) -> str | None:
        """Ask for an object's headers; None where there is no such object, or it may not be read."""
        try:
            return self.status(path).state
        except (MissingImage, UnreadableImage, UnsupportedImage):
            return None

    def images(self, on_skipped: Callable[[Skipped], None] | None = None) -> Iterator[str]:
        """Yield the images in the store's order, page by page."""
        skip = on_skipped or _pass_over
        report = None
        for found in self._objects():
            path = found["path"]
            folder, name = posixpath.split(path)
            if name == REPORT_MARK:
                # the first of its folder, in the order of bytes
                report = folder
            elif report is not None and folder == report:
                continue
            elif skipped := self._skipped(path):
                skip(skipped)
            else:
                yield path

    def is_empty(self) -> bool:
        """List the first page."""
        try:
            return next(self._objects(), None) is None
        except BadKey:
            # something is there
            return False

    def require(self) -> None:
        """Refuse a prefix that cannot be listed, or is empty."""
        if self.is_empty():
            raise ImageRootUnavailable(f"{self.name} is empty")

    def _objects(self) -> "Iterator[ObjectMeta]":
        """Yield every object but the marks of folders, which are empty. BadKey, ImageRootUnavailable."""
        try:
            for page in obstore.list(self._store):
                yield from (one for one in page if one["size"] or posixpath.splitext(one["path"])[1])
        except InvalidPathError as exc:
            raise BadKey(
                f"{self.name} cannot be listed: {reason_of(exc)}. No path below a folder can look like that; rename "
                "the object, or announce images by a list of their paths"
            ) from exc
        except (BaseError, FileNotFoundError) as exc:
            raise ImageRootUnavailable(f"{self.name} cannot be listed: {reason_of(exc)}") from exc

    def _skipped(self, path: str) -> Skipped | None:
        if any(part.startswith(".") for part in path.split("/")):
            return skipped_as_hidden(path, posixpath.splitext(path)[1].lower() in IMAGE_SUFFIXES)
        return skipped_by_name(path, lambda: self._why_no_image(path))

    def _why_no_image(self, path: str) -> str:
        with self._blame(shown(path)):
            return why_no_image(bytes(obstore.get_range(self._store, path, start=0, length=SIGNATURE_BYTES)))

    @contextmanager
    def _blame(self, name: str) -> Iterator[None]:
        """Tell a missing or refused object from a store that is away, or refuses everything."""
        try:
            yield
        except FileNotFoundError as exc:
            # a bucket that is gone answers alike
            self.require()
            raise MissingImage(name, "there is no such object") from exc
        except BaseError as exc:
            status = _STATUS.search(str(exc))
            if status is not None and 400 <= int(status[1]) < 500 and int(status[1]) not in _PASSING:
                # credentials that may not even list are refused for all objects
                self.require()
                raise UnreadableImage(name, f"is refused by the store: {reason_of(exc)}") from exc
            raise ImageRootUnavailable(f"{name} in {self.name}: {reason_of(exc)}") from exc


def _state_of(found: "ObjectMeta") -> str:
    return f"{found['e_tag']}-{found['size']}-{found['last_modified'].isoformat()}"


def reason_of(error: Exception) -> str:
    """Return what a store, or the way to it, said is wrong, in one line and without credentials."""
    text = str(error)
    target = _TARGET.search(text)
    where = f"{target[1]}: " if target else ""
    hint = NO_CREDENTIALS if any(path in where for path in METADATA_PATHS) else ""
    if status := _STATUS.search(text):
        # some errors hold the answer twice
        words = ": ".join(dict.fromkeys(said for _, said in _SAID.findall(text))) or status[2].strip()
        return f"{where}{status[1]} {words}{hint}"
    if system := _SYSTEM_SAID.search(text):
        return f"{where}{system[1] or system[2]}{hint}"
    return text.partition("\n\nDebug source:")[0].splitlines()[0]


def _pass_over(_skipped: Skipped) -> None:
    """Ignore what is no image."""
