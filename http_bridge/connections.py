"""Client connections: bytes that are not HTTP, and clients that stop reading."""

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong

from http_bridge.errors import HttpError, first_line
from http_bridge.responses import error_response
from http_bridge.security import HEADERS

log = logging.getLogger(__name__)

IDLE_S = 75.0
"""How long a connection may stay open without a complete request head. Proxies usually keep one for 60 s."""

LINGER_S = 5.0
"""How long the rest of a body is read after an early response, so that the client gets to read it."""

STALLED_S = 30.0
"""How long a client may read nothing of a response."""

STALL_CHECK_S = 1.0

MAX_LINE_BYTES = 64 * 1024
"""Of a request's first line: fits a path of 4,096 characters, each as four %XX."""

SETTINGS = {
    "keepalive_timeout": IDLE_S,
    "lingering_time": LINGER_S,
    "max_line_size": MAX_LINE_BYTES,
    "access_log": None,
    # `bodies` decompresses them, up to a limit
    "auto_decompress": False,
}


class Connection(web.RequestHandler):
    """One connection; bytes that are not HTTP get an error in the envelope, and no log entry above debug.

    stalled  bytes that the client has not read yet, and since when it reads none
    """

    __slots__ = ("stalled",)

    def pause_writing(self) -> None:
        """Note the size of the write buffer; the transport calls this when it fills up."""
        super().pause_writing()
        self.stalled = (self._buffered(), asyncio.get_running_loop().time())

    def drop_if_stalled(self) -> None:
        """Close the connection if its client has read nothing for STALLED_S."""
        if self.transport is None or not self.writing_paused:
            return
        now = asyncio.get_running_loop().time()
        if self._buffered() < self.stalled[0]:
            self.stalled = (self._buffered(), now)
        elif now - self.stalled[1] > STALLED_S:
            log.debug("a client has read nothing for %g s", STALLED_S)
            self.transport.abort()

    def _buffered(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Respond to a request that cannot be parsed, and close the connection."""
        # UnicodeError: an Expect header that is not text, which aiohttp rejects before any handler runs
        if request.writer.output_size or not (status == 400 or isinstance(exc, UnicodeError)):
            return super().handle_error(request, status, exc, message)
        log.debug("not HTTP, from %s: %s", request.remote, message)
        error = HttpError(400, f"the request is not HTTP: {first_line(message or str(exc))}")
        if isinstance(exc, UnicodeError):
            error = HttpError(400, "a header is not valid UTF-8")
        elif isinstance(exc, BadHttpMethod):
            error = HttpError(501, first_line(exc.message))
        elif isinstance(exc, LineTooLong):
            error = HttpError(
                431, f"a line of the request's head is too long: the first may have {MAX_LINE_BYTES:,} bytes"
            )
        response = error_response(error)
        response.headers.update(HEADERS)
        response.force_close()
        return response


def factory(runner: web.BaseRunner) -> Callable[[], Connection]:
    """Return the factory of connections for asyncio's server; set up the runner before the first one arrives."""
    loop = asyncio.get_running_loop()
    return lambda: Connection(_server_of(runner), loop=loop, **SETTINGS)  # type: ignore[arg-type]


async def drop_stalled(runner: web.BaseRunner) -> None:
    """Close connections whose clients stop reading, until cancelled."""
    while True:
        await asyncio.sleep(STALL_CHECK_S)
        for connection in _server_of(runner).connections:
            if isinstance(connection, Connection):
                connection.drop_if_stalled()


def _server_of(runner: web.BaseRunner) -> web.Server:
    assert runner.server is not None
    return runner.server
