"""What a hostile or broken client sends the bridge: bodies that stop, lie about their coding or never end, headers that
are no text, and bytes that are no HTTP. Nobody else waits for it, it is told why, and the log has no traceback of it.

Most of it needs no Kafka: a request that gets as far as 503 was read in full.
"""

import asyncio
import gzip
import io
import json
import random
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from http_bridge import connections
from http_bridge.connections import SETTINGS, drop_stalled, factory
from streams import encoder_consumer
from streams.config import Config, KafkaConfig
from tests.support.bridging import ENCODER, MATCHER, SEARCH, Bridge, answering, bridge, eventually, refused_start
from tests.support.streaming import scene, write_groups

NOWHERE = KafkaConfig("127.0.0.1:1")
BODY = json.dumps({"request_id": 1, "relative_path": "0.png"}).encode()
FORM = "Content-Type: multipart/form-data; boundary=edge"
DUPLICATES, IMAGES = "/v1/duplicates", "/v1/images"
WITH_BODY = [ENCODER, SEARCH, MATCHER, DUPLICATES, IMAGES, "/sign-in"]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    folder = tmp_path_factory.mktemp("bridge")
    with bridge(NOWHERE, folder, SERVER_PORT="0", BRIDGE_BODY_TIMEOUT_S="1", BRIDGE_BODIES="20") as found:
        yield found
        assert "Traceback" not in found.log.read_text()


def head(method: str, path: str, *headers: str | bytes, length: int | None = None) -> bytes:
    lines: list[str | bytes] = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return b"\r\n".join(line if isinstance(line, bytes) else line.encode() for line in lines) + b"\r\n\r\n"


def connect(to: Bridge, data: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", to.ports[0]), timeout=60)
    client.sendall(data)
    return client


def answer(client: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the one answer on a connection, which ends with it."""
    data = b""
    while chunk := client.recv(65536):
        data += chunk
    client.close()
    top, _, body = data.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


def said(client: socket.socket, status: int) -> str:
    """Why a request was refused, in the envelope."""
    found, headers, body = answer(client)
    assert found == status, body
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Server"] == "imagetools"
    told = json.loads(body)
    assert set(told) == {"global_status", "error_message", "response"}
    assert (told["global_status"], told["response"]) == (0, {})
    return str(told["error_message"])


def sent(to: Bridge, method: str, path: str, body: bytes, *headers: str | bytes) -> socket.socket:
    return connect(to, head(method, path, *headers, length=len(body)) + body)


def jpeg(width: int, height: int) -> bytes:
    out = io.BytesIO()
    scene(0, (width, height)).save(out, "JPEG")
    return out.getvalue()


def coming(to: Bridge) -> int:
    text = to.get("/metrics").body.decode()
    return int(float(text.partition("\nimagetools_http_bodies_coming ")[2].split("\n")[0]))


class TestBodiesThatStop:
    def test_a_body_that_stops_arriving_ends_at_every_endpoint(self, asked: Bridge) -> None:
        stopped = [connect(asked, head("POST", path, length=100) + b"{") for path in WITH_BODY]
        stopped.append(connect(asked, head("POST", DUPLICATES, FORM, length=1000) + b"--edge\r\nContent-Dis"))
        stopped.append(connect(asked, head("POST", ENCODER, "Transfer-Encoding: chunked") + b"1\r\n{\r\n"))
        stopped.append(connect(asked, head("POST", ENCODER, "Content-Encoding: gzip", length=100) + b"\x1f\x8b"))
        for client in stopped:
            assert "the body did not arrive in time: 1 s" in said(client, 408)
        assert coming(asked) == 0

    def test_a_body_for_an_endpoint_that_takes_none_holds_nothing(self, asked: Bridge) -> None:
        asking = (("GET", "/healthz", 200), ("DELETE", "/nothing", 404), ("GET", "/v1/status", 200))
        waiting = [connect(asked, head(method, path, length=100) + b"{") for method, path, _ in asking]
        assert [answer(client)[0] for client in waiting] == [status for _, _, status in asking]

    def test_a_body_that_trickles_ends_as_well(self, asked: Bridge) -> None:
        client = connect(asked, head("POST", DUPLICATES, length=10_000))
        client.settimeout(0.05)
        first = b""
        for _ in range(1000):
            try:
                first = client.recv(12)
                break
            except TimeoutError:
                client.sendall(b"x")
        assert first == b"HTTP/1.1 408"
        client.close()

    def test_a_slow_body_that_goes_on_coming_is_read_to_its_end(self, asked: Bridge) -> None:
        piece, pieces = b" " * 2**16, 12
        client = connect(asked, head("POST", ENCODER, length=len(piece) * pieces + len(BODY)))
        client.settimeout(0.25)
        for _ in range(pieces):
            client.sendall(piece)
            with pytest.raises(TimeoutError):
                client.recv(1)
        client.settimeout(60)
        client.sendall(BODY)
        assert "Kafka" in said(client, 503), "after three times the time that a silent one has"

    def test_past_the_bound_the_furthest_behind_makes_room(self, asked: Bridge) -> None:
        with ExitStack() as stack:
            stopped = [stack.enter_context(connect(asked, head("POST", ENCODER, length=100) + b"{")) for _ in range(60)]
            assert asked.post(ENCODER, json.loads(BODY)).status == 503
            assert coming(asked) <= 20
            assert "20 bodies are arriving, and this one was the furthest behind" in said(stopped[0], 408)

    def test_three_hundred_bodies_that_stop_keep_nobody_from_an_answer(
        self, kafka: KafkaConfig, tmp_path: Path
    ) -> None:
        images = tmp_path / "images"
        write_groups(images, 1)
        encoder = encoder_consumer.make(Config(kafka=kafka, images_dir=images))
        settings = {"BRIDGE_BODY_TIMEOUT_S": "600", "BRIDGE_IN_FLIGHT": "1"}
        with answering(kafka, encoder), bridge(kafka, tmp_path, **settings) as small, ExitStack() as stack:
            small.wait_ready()
            for n in range(300):
                path = (DUPLICATES, ENCODER)[n % 2]
                stack.enter_context(connect(small, head("POST", path, length=1000) + b"{"))
            eventually(lambda: coming(small) == 128)
            for _ in range(20):
                assert small.post(ENCODER, json.loads(BODY)).status == 200
            assert b"imagetools_http_requests_waiting 0.0" in small.get("/metrics").body
            assert "Traceback" not in small.log.read_text()
            # nobody waits twenty minutes for it to end
            small.process.kill()
            small.process.wait()

    def test_a_client_that_leaves_in_mid_body_is_no_fault(self, asked: Bridge) -> None:
        for reset in (False, True):
            left = [connect(asked, head("POST", path, length=100) + b"{") for path in WITH_BODY]
            left.append(connect(asked, head("POST", DUPLICATES, FORM, length=100) + b"--edge"))
            eventually(lambda: coming(asked) == len(left))  # noqa: B023
            for client in left:
                if reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            eventually(lambda: coming(asked) == 0)
        text = asked.get("/metrics").body.decode()
        assert 'code="500"' not in text
        assert "a fault while serving" not in asked.log.read_text()


def gzipped(data: bytes) -> bytes:
    # without the time: the parameters name the tests, which are to be the same in every process
    return gzip.compress(data, mtime=0)


class TestCodings:
    @pytest.mark.parametrize(
        ("coding", "body", "status", "word"),
        [
            ("gzip", gzipped(BODY), 503, "Kafka"),
            ("x-gzip", gzipped(BODY[:9]) + gzipped(BODY[9:]), 503, "Kafka"),
            ("GZIP", gzipped(BODY), 503, "Kafka"),
            ("deflate", zlib.compress(BODY), 503, "Kafka"),
            ("deflate", zlib.compress(BODY)[2:-4], 503, "Kafka"),
            ("identity", BODY, 503, "Kafka"),
            ("", BODY, 503, "Kafka"),
            ("gzip", BODY, 400, "not gzip"),
            ("gzip", gzipped(BODY)[:-3], 400, "not gzip"),
            ("gzip", gzipped(BODY) + b"more", 400, "not gzip"),
            ("gzip", b"", 400, "JSON"),
            ("deflate", BODY, 400, "not deflate"),
            ("deflate", zlib.compress(BODY)[:-1], 400, "not deflate"),
            ("deflate", b"", 400, "not deflate"),
            ("br", BODY, 415, "deflate, gzip"),
            ("zstd", BODY, 415, "'zstd'"),
            ("snappy", BODY, 415, "'snappy'"),
            ("gzip, gzip", gzipped(gzipped(BODY)), 415, "'gzip, gzip'"),
        ],
    )
    def test_a_coding_is_undone_or_refused(
        self, asked: Bridge, coding: str, body: bytes, status: int, word: str
    ) -> None:
        assert word in said(sent(asked, "POST", ENCODER, body, f"Content-Encoding: {coding}"), status)

    def test_a_coding_that_is_no_text(self, asked: Bridge) -> None:
        assert "not known" in said(sent(asked, "POST", ENCODER, BODY, b"Content-Encoding: \xe9\xff"), 415)
        _, headers, _ = answer(sent(asked, "POST", ENCODER, BODY, "Content-Encoding: br"))
        assert headers["Accept-Encoding"] == "gzip, deflate"

    def test_a_small_body_that_would_unpack_to_a_gigabyte_is_refused_and_costs_little(self, asked: Bridge) -> None:
        packer, piece = zlib.compressobj(9, zlib.DEFLATED, 31), bytes(2**20)
        bomb = b"".join(packer.compress(piece) for _ in range(1024)) + packer.flush()
        assert len(bomb) < 2**20
        deflated = zlib.compress(bytes(2**28), 9)
        process = psutil.Process(asked.process.pid)
        before = process.memory_info().rss
        for path, coding, body in (
            (ENCODER, "gzip", bomb), (DUPLICATES, "gzip", bomb), (DUPLICATES, "deflate", deflated),
        ):  # fmt: skip
            assert "when it is unpacked" in said(sent(asked, "POST", path, body, f"Content-Encoding: {coding}"), 413)
        assert "unpacked" in said(sent(asked, "POST", DUPLICATES, bomb, FORM, "Content-Encoding: gzip"), 413)
        assert answer(sent(asked, "GET", "/healthz", bomb, "Content-Encoding: gzip"))[0] == 200
        assert process.memory_info().rss - before < 150 * 2**20


PART = 'Content-Disposition: form-data; name="{}"; filename="{}"\r\n\r\n'


def form(*parts: tuple[str, bytes]) -> bytes:
    return b"".join(b"--edge\r\n" + top.encode() + data + b"\r\n" for top, data in parts) + b"--edge--\r\n"


class TestForms:
    @pytest.mark.parametrize(
        ("parts", "status", "word"),
        [
            ([(PART.format("image", "a.jpg"), b"A"), (PART.format("image", "b.jpg"), b"B")], 422, "more than one file"),
            ([(PART.format("image", "a.jpg"), b"A"), (PART.format("other", "b.jpg"), b"B")], 422, "more than one file"),
            ([(PART.format("other", "a.jpg"), b"A"), (PART.format("image", ""), b"B")], 422, "more than one file"),
            ([('Content-Disposition: form-data; name="text"\r\n\r\n', b"hello")], 422, "no file"),
            ([(PART.format("image", ""), b"")], 422, "the image: "),
            ([("Content-Type: multipart/mixed; boundary=in\r\n\r\n", b"--in\r\n\r\nx\r\n--in--")], 422, "inside"),
            ([('Content-Disposition: form-data; name="text"\r\n\r\n', b"")] * 101, 422, "100 parts"),
            ([("no header\r\n\r\n", b"")], 422, "cannot be read"),
            ([('Content-Disposition: form-data; name="image"; filena\r\n\r\n', b"A")], 422, "cannot be read"),
        ],
    )
    def test_a_form_that_is_not_one_image_says_so(
        self, asked: Bridge, parts: Sequence[tuple[str, bytes]], status: int, word: str
    ) -> None:
        assert word in said(sent(asked, "POST", DUPLICATES, form(*parts), FORM), status)

    def test_text_and_fields_without_a_file_do_not_count(self, asked: Bridge) -> None:
        image = jpeg(64, 48)
        text = ('Content-Disposition: form-data; name="note"\r\n\r\n', b"hello")
        unused = (PART.format("second", ""), b"")
        for parts in (
            [(PART.format("image", "a.jpg"), image)],
            [text, unused, (PART.format("x", "a.jpg"), image), text],
        ):
            assert "Kafka" in said(sent(asked, "POST", DUPLICATES, form(*parts), FORM), 503)
        packed = gzip.compress(form((PART.format("image", "a.jpg"), image)))
        assert "Kafka" in said(sent(asked, "POST", DUPLICATES, packed, FORM, "Content-Encoding: gzip"), 503)

    def test_a_form_cut_at_any_place_is_no_fault(self, asked: Bridge) -> None:
        whole = form((PART.format("image", "a.jpg"), jpeg(16, 16)))
        for end in range(0, len(whole), 7):
            assert answer(sent(asked, "POST", DUPLICATES, whole[:end], FORM))[0] in {415, 422, 503}


@pytest.fixture(scope="module")
def locked(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    kafka, folder = KafkaConfig(bootstrap), tmp_path_factory.mktemp("locked")
    with bridge(kafka, folder, SERVER_PORT="0", BRIDGE_TOKEN="sésame") as found:
        yield found
        assert "Traceback" not in found.log.read_text()


class TestHeaders:
    @pytest.mark.parametrize(
        "header",
        [b"Authorization: Bearer \xe9", b"Authorization: Bearer \xc3\xa9", b"Authorization: \xff",
         b"Cookie: imagetools=\xe9", b"Cookie: \xff=\xff; imagetools"],
    )  # fmt: skip
    def test_a_token_that_is_no_text_is_a_wrong_token(self, locked: Bridge, header: bytes) -> None:
        said(connect(locked, head("GET", "/v1/status", header)), 401)

    def test_a_token_beyond_ascii_is_known(self, locked: Bridge) -> None:
        token = "Authorization: Bearer sésame"
        assert answer(connect(locked, head("GET", "/v1/status", token)))[0] == 200
        _, headers, _ = answer(sent(locked, "POST", "/sign-in", b"token=s%C3%A9same"))
        cookie = headers["Set-Cookie"].partition(";")[0]
        assert answer(connect(locked, head("GET", "/v1/status", f"Cookie: {cookie}")))[0] == 200

    @pytest.mark.parametrize(
        "header", [b"Origin: http://\xe9", b"Origin: http://[", b"Origin: \xff", b"Origin: http://[::1"]
    )
    def test_an_origin_that_is_none_may_not_ask(self, asked: Bridge, header: bytes) -> None:
        assert "may not ask here" in said(connect(asked, head("GET", "/v1/status", header)), 403)

    @pytest.mark.parametrize("host", [b"[", b"\xe9", b"[::1", b"localhost:port", b"a" * 3000])
    def test_a_host_that_is_none_is_not_this_machine(self, asked: Bridge, host: bytes) -> None:
        client = connect(asked, b"GET /v1/status HTTP/1.1\r\nConnection: close\r\nHost: " + host + b"\r\n\r\n")
        assert answer(client)[0] in {200 if host.startswith(b"localhost") else 403}

    def test_any_bytes_in_any_header_are_the_clients_fault_alone(self, asked: Bridge) -> None:
        chance = random.Random(11)
        names = ["Accept", "Authorization", "Content-Type", "Content-Encoding", "Cookie", "Expect", "Host", "Origin",
                 "Last-Event-ID", "Range", "Transfer-Encoding", "Upgrade", "X-Forwarded-Proto"]  # fmt: skip
        starts = [b"", b"multipart/form-data; boundary=", b"text/", b"Bearer ", b"imagetools=", b"http://[", b"bytes="]
        for _ in range(300):
            name = chance.choice(names)
            value = chance.choice(starts) + bytes(chance.choice(range(32, 256)) for _ in range(chance.randrange(12)))
            method, path = chance.choice([("GET", "/v1/status"), ("POST", DUPLICATES), ("POST", ENCODER), ("GET", "/")])
            body = BODY if method == "POST" else b""
            status, _, _ = answer(sent(asked, method, path, body, name.encode() + b": " + value))
            assert status < 500 or status == 503, (name, value, path)
        assert "Traceback" not in asked.log.read_text()


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
    def test_it_is_told_in_the_envelope(self, asked: Bridge, data: bytes, status: int, word: str) -> None:
        assert word in said(connect(asked, data), status)
        assert "Traceback" not in asked.log.read_text()


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

        asyncio.run(run())

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

        asyncio.run(run())


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


class TestStart:
    def test_an_address_that_others_reach_is_warned_of_without_a_token(self, bootstrap: str, tmp_path: Path) -> None:
        warned = []
        for settings in ({"BRIDGE_HOST": "0.0.0.0"}, {"BRIDGE_HOST": "0.0.0.0", "BRIDGE_TOKEN": "a"}, {}):
            with bridge(KafkaConfig(bootstrap), tmp_path, SERVER_PORT="0", **settings) as started:
                warned.append([line for line in started.log.read_text().splitlines() if "BRIDGE_TOKEN" in line])
        assert [len(lines) for lines in warned] == [1, 0, 0]
        assert "WARNING BRIDGE_HOST is 0.0.0.0 and BRIDGE_TOKEN is not set: anyone who" in warned[0][0]

    @pytest.mark.parametrize(
        ("host", "word"),
        [
            ("192.0.2.1", "--bridge-host"),
            ("no.such.host.invalid", "BRIDGE_HOST"),
            ("a" * 70 + ".example", "BRIDGE_HOST"),
        ],
    )
    def test_an_address_that_cannot_be_had_is_named(self, host: str, word: str) -> None:
        said = refused_start(NOWHERE, BRIDGE_HOST=host, SERVER_PORT="0")
        assert word in said
        assert "Traceback" not in said

    def test_a_port_that_is_taken_names_the_option(self, asked: Bridge) -> None:
        said = refused_start(NOWHERE, SERVER_PORT=str(asked.ports[0]))
        assert "SERVER_PORT or --server-port" in said
        assert str(asked.ports[0]) in said
