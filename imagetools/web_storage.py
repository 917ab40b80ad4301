"""Images on a web server, below an address that no path and no redirect can leave."""

import ipaddress
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import HTTPError, LocationValueError

from imagetools.errors import ConfigError, ImageRootUnavailable, ImageTooLarge, MissingImage, UnreadableImage
from imagetools.folder import Skipped
from imagetools.object_keys import key_of
from imagetools.paths import shown
from imagetools.storage import FileStatus, ImageStorage

TIMEOUT: Final = urllib3.Timeout(connect=5, read=10)
RETRY: Final = urllib3.Retry(
    total=5,
    backoff_factor=0.1,
    backoff_jitter=0.1,
    backoff_max=3,
    status_forcelist=(408, 425, 429, 500, 502, 503, 504),
    allowed_methods=("GET", "HEAD"),
    # a server that asks for an hour is away
    respect_retry_after_header=False,
    raise_on_status=False,
    redirect=0,
)
READS: Final = 3
"""Times that a body is asked for which ends early."""

_CHUNK_BYTES: Final = 256 * 1024
_GONE: Final = frozenset({404, 410})
_ALL_REFUSED: Final = frozenset({401, 407})


class PrivateAddress(HTTPError):
    """A name leads to an address that is not of the public internet."""


class _PublicConnection(HTTPSConnection):
    def connect(self) -> None:
        """Connect; before anything is asked for, refuse an address that a name should not lead to."""
        super().connect()
        assert self.sock is not None
        address = self.sock.getpeername()[0]
        if not ipaddress.ip_address(address.partition("%")[0]).is_global:
            self.close()
            raise PrivateAddress(f"{self.host} has the private address {address}; IMAGES_PRIVATE=yes allows it")


class _PublicPool(HTTPSConnectionPool):
    ConnectionCls = _PublicConnection


class WebStorage(ImageStorage):
    """Files of a web server, by GET and HEAD without credentials. It has no list of them."""

    readers = 32

    def __init__(self, address: str, *, private: bool = False) -> None:
        """private: allow a private address, and http. ConfigError where that is needed."""
        self.name = address
        if address.startswith("http:") and not private:
            raise ConfigError(f"{address}: without TLS anybody on the way can change images; use https, or set "
                              "IMAGES_PRIVATE=yes for a server in your own network")  # fmt: skip
        self._manager = urllib3.PoolManager(maxsize=self.readers, block=True, timeout=TIMEOUT, retries=RETRY)
        if not private:
            self._manager.pool_classes_by_scheme = {"https": _PublicPool}
        try:
            self._manager.connection_from_url(address)
        except LocationValueError as exc:
            raise ConfigError(f"{address}: {exc}") from exc

    def read(self, path: str, limit: int) -> tuple[bytes, str | None]:
        """Return the body of an answer, and its state."""
        name = shown(path)
        for left in range(READS - 1, -1, -1):
            with self._answer("GET", path) as answer:
                declared = answer.headers.get("Content-Length", "")
                if declared.isdigit() and int(declared) > limit:
                    raise ImageTooLarge(name, f"{int(declared):,} bytes, the limit is {limit:,}")
                try:
                    return _capped(name, answer, limit), _status_of(answer).state
                except HTTPError as exc:
                    if not left:
                        raise ImageRootUnavailable(f"{name} in {self.name}: the answer ends early: {exc}") from exc
        raise AssertionError("the last try returns or raises")

    def status(self, path: str) -> FileStatus:
        """Ask for a file's headers."""
        with self._answer("HEAD", path) as answer:
            return _status_of(answer)

    def state(self, path: str) -> str | None:
        """Ask for a file's headers; None where there is no such file, or it may not be read."""
        try:
            return self.status(path).state
        except (MissingImage, UnreadableImage):
            return None

    def images(self, on_skipped: Callable[[Skipped], None] | None = None) -> Iterator[str]:
        """Refuse: HTTP has no list of files. ConfigError."""
        raise ConfigError(f"{self.name}: a web server has no list of its files; announce them by a list of paths")

    def is_empty(self) -> bool:
        """Return True: nothing can be listed."""
        return True

    def require(self) -> None:
        """Ask for the address itself; any answer but a failure of the server will do."""
        with self._answering(self.name), self._request("HEAD", f"{self.name}/") as answer:
            _require_up(self.name, answer)

    @contextmanager
    def _answer(self, method: str, path: str) -> Iterator[urllib3.BaseHTTPResponse]:
        """Yield an answer that has the file. MissingImage, UnreadableImage, ImageRootUnavailable."""
        name, key = shown(path), key_of(path)
        with self._answering(f"{name} in {self.name}"):
            answer = self._request(method, f"{self.name}/{quote(key, safe='/')}")
        with answer:
            _require_up(f"{name} in {self.name}", answer)
            if answer.status in _GONE:
                raise MissingImage(name, "there is no such file")
            if 300 <= answer.status < 400:
                raise UnreadableImage(name, "is elsewhere, says the server; redirects are not followed")
            if answer.status != 200:
                raise UnreadableImage(name, f"is refused by the server: {_words(answer)}")
            yield answer

    def _request(self, method: str, url: str) -> urllib3.BaseHTTPResponse:
        return self._manager.request(
            method, url, redirect=False, preload_content=False, decode_content=False,
            headers={"Accept-Encoding": "identity"},
        )  # fmt: skip

    @contextmanager
    def _answering(self, what: str) -> Iterator[None]:
        try:
            yield
        except HTTPError as exc:
            raise ImageRootUnavailable(f"{what}: {getattr(exc, 'reason', None) or exc}") from exc


def _require_up(what: str, answer: urllib3.BaseHTTPResponse) -> None:
    if answer.status >= 500 or answer.status in _ALL_REFUSED or answer.status in RETRY.status_forcelist:
        raise ImageRootUnavailable(f"{what}: the server says {_words(answer)}")


def _words(answer: urllib3.BaseHTTPResponse) -> str:
    return f"{answer.status} {answer.reason or ''}".rstrip()


def _capped(name: str, answer: urllib3.BaseHTTPResponse, limit: int) -> bytes:
    chunks, size = [], 0
    for chunk in answer.stream(_CHUNK_BYTES, decode_content=False):
        size += len(chunk)
        if size > limit:
            raise ImageTooLarge(name, f"more than {limit:,} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _status_of(answer: urllib3.BaseHTTPResponse) -> FileStatus:
    tag, changed = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
    size = answer.headers.get("Content-Length")
    # a server may tell the size in answers to GET alone
    return FileStatus(tag or (f"{size}-{changed}" if changed else None), _time(changed))


def _time(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
