"""Connections of clients: what is no HTTP, and those who take no answer."""

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong

from http_bridge.refusals import Refusal, first_line, refused
from http_bridge.security import HEADERS

log = logging.getLogger(__name__)

IDLE_S = 75.0
"""How long a connection may stay without a whole request's head: longer than proxies keep one for the next request,
which is 60 s as a rule."""

LINGER_S = 5.0
"""How long a body that nobody reads may go on, so that its client gets to read the answer."""

STALLED_S = 30.0
"""How long a client may take nothing of an answer that waits for it."""

MOST_LINE = 64 * 1024
"""Bytes of a request's first line: a path of 4,096 characters, each as four %XX, and more."""

SETTINGS = {
    "keepalive_timeout": IDLE_S,
    "lingering_time": LINGER_S,
    "max_line_size": MOST_LINE,
    "access_log": None,
    # bodies are unpacked where they are read, up to a limit
    "auto_decompress": False,
}


class Connection(web.RequestHandler):
    """One connection; what is no HTTP is told in the envelope, and is nothing to fill the log with.

    waiting  bytes that its client has not taken, and since when it takes none
    """

    __slots__ = ("waiting",)

    def pause_writing(self) -> None:
        """As the transport says when much waits for the client."""
        super().pause_writing()
        self.waiting = (self._size(), asyncio.get_running_loop().time())

    def drop_if_stalled(self) -> None:
        """End it where its client has taken nothing for STALLED_S."""
        if self.transport is None or not self.writing_paused:
            return
        now = asyncio.get_running_loop().time()
        if self._size() < self.waiting[0]:
            self.waiting = (self._size(), now)
        elif now - self.waiting[1] > STALLED_S:
            log.debug("a client has taken nothing for %g s", STALLED_S)
            self.transport.abort()

    def _size(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that cannot be read, after which the connection ends."""
        # UnicodeError: an Expect header that is no text, which aiohttp refuses before any code of ours
        if request.writer.output_size or not (status == 400 or isinstance(exc, UnicodeError)):
            return super().handle_error(request, status, exc, message)
        log.debug("no HTTP from %s: %s", request.remote, message)
        refusal = Refusal(400, f"the request is not HTTP: {first_line(message or str(exc))}")
        if isinstance(exc, UnicodeError):
            refusal = Refusal(400, "a header is not valid UTF-8")
        elif isinstance(exc, BadHttpMethod):
            refusal = Refusal(501, first_line(exc.message))
        elif isinstance(exc, LineTooLong):
            refusal = Refusal(431, f"a line of the request's head is too long: the first may have {MOST_LINE:,} bytes")
        response = refused(refusal)
        response.headers.update(HEADERS)
        response.force_close()
        return response


def factory(runner: web.BaseRunner) -> Callable[[], Connection]:
    """What makes a `Connection` for each client; the runner has to be set up before the first one comes."""
    loop = asyncio.get_running_loop()
    return lambda: Connection(_server_of(runner), loop=loop, **SETTINGS)  # type: ignore[arg-type]


async def drop_stalled(runner: web.BaseRunner) -> None:
    """End connections whose clients take nothing of what is written to them; until cancelled."""
    while True:
        await asyncio.sleep(1)
        for connection in _server_of(runner).connections:
            if isinstance(connection, Connection):
                connection.drop_if_stalled()


def _server_of(runner: web.BaseRunner) -> web.Server:
    assert runner.server is not None
    return runner.server
