"""Bytes that are not HTTP, and clients that stop sending or reading."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from http_bridge import connections
from http_bridge.connections import SETTINGS, drop_stalled, factory
from tests.support import coroutines
from tests.support.bridging import (
    ENCODER,
    Bridge,
)
from tests.support.raw_http import connect, head, reason


class TestNoHttp:
    @pytest.mark.parametrize(
        ("data", "status", "word"),
        [
            (head("FOO", "/"), 501, "Invalid method"),
            (b"hello\r\n\r\n", 501, "Invalid method"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 501, "HTTPS"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "not HTTP"),
            (b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", 400, "not HTTP"),
            (b"GET / HTTP/1.1\r\n\r\n", 400, "Host"),
            (head("GET", "/", "no colon"), 400, "not HTTP"),
            (head("POST", ENCODER, "Content-Length: 3", "Content-Length: 4"), 400, "Content-Length"),
            (head("POST", ENCODER, "Content-Length: -1"), 400, "not HTTP"),
            (head("POST", ENCODER, "Transfer-Encoding: chunked") + b"zz\r\n", 400, "not HTTP"),
            (head("GET", "/" + "a" * 70_000), 431, "65,536"),
            (head("GET", "/", "X: " + "a" * 70_000), 431, "too long"),
            (head("GET", "/é"), 400, "not HTTP"),
            (head("PURGE", "/"), 405, "Not Allowed"),
            (head("TRACE", ENCODER), 405, "Not Allowed"),
            (head("OPTIONS", "*"), 404, "Not Found"),
            (head("CONNECT", "localhost:80"), 404, "Not Found"),
            (head("POST", ENCODER, "Expect: nonsense", length=0), 417, "nonsense"),
            (head("POST", "/nothing", "Expect: nonsense", length=0), 417, "nonsense"),
        ],
    )
    def test_the_error_comes_in_the_envelope(self, offline: Bridge, data: bytes, status: int, word: str) -> None:
        assert word in reason(connect(offline, data), status)
        assert "Traceback" not in offline.log.read_text()


class TestSlowClients:
    """On a server in this process, with times that a test can wait for."""

    def test_a_head_that_does_not_come_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(SETTINGS, "keepalive_timeout", 0.5)

        async def client(port: int) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n")
            try:
                for n in range(100):
                    try:
                        return await asyncio.wait_for(reader.read(1), 0.05)
                    except TimeoutError:
                        writer.write(b"X-%d: 1\r\n" % n)
            finally:
                writer.transport.abort()
            raise AssertionError("it goes on waiting")

        async def run() -> None:
            async with serving() as (_, port):
                assert await client(port) == b""

        coroutines.run(run())

    def test_a_client_that_takes_nothing_of_its_answer_is_let_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "STALLED_S", 1.0)

        async def run() -> None:
            async with serving() as (runner, port):
                dropping = asyncio.create_task(drop_stalled(runner))
                still, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**10)
                taking, other = await asyncio.open_connection("127.0.0.1", port)
                for one in (writer, other):
                    one.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await still.readline()
                assert runner.server is not None
                async with asyncio.timeout(30):
                    while len(runner.server.connections) != 1:
                        assert await taking.read(2**20)
                assert await taking.read(1), "the one that reads is served on"
                dropping.cancel()
                for one in (writer, other):
                    one.transport.abort()

        coroutines.run(run())


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[web.ServerRunner, int]]:
    runner = web.ServerRunner(web.Server(_endless))
    await runner.setup()
    listening = await asyncio.get_running_loop().create_server(factory(runner), "127.0.0.1", 0)
    yield runner, listening.sockets[0].getsockname()[1]
    listening.close()
    await runner.cleanup()


async def _endless(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        while True:
            await response.write(bytes(2**16))
    except ConnectionError:
        return response
