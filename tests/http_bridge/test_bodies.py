"""Bodies that stop, trickle, lie about their coding, or decompress to gigabytes."""

import gzip
import json
import socket
import struct
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from streams import encoder_consumer
from streams.config import Config, KafkaConfig
from tests.support.bridging import (
    ENCODER,
    MATCHER,
    SEARCH,
    UPLOADS,
    Bridge,
    answering,
    bridge,
    eventually,
)
from tests.support.raw_http import ENCODE_BODY, answer, connect, head, reason, send_request
from tests.support.streaming import write_groups

FORM = "Content-Type: multipart/form-data; boundary=edge"

IMAGES = "/v1/images"

WITH_BODY = [ENCODER, SEARCH, MATCHER, UPLOADS, IMAGES, "/sign-in"]


def coming(to: Bridge) -> int:
    text = to.get("/metrics").body.decode()
    return int(float(text.partition("\nimagetools_http_bodies_coming ")[2].split("\n")[0]))


class TestBodiesThatStop:
    def test_a_body_that_stops_arriving_ends_at_every_endpoint(self, offline: Bridge) -> None:
        stopped = [connect(offline, head("POST", path, length=100) + b"{") for path in WITH_BODY]
        stopped.append(connect(offline, head("POST", UPLOADS, FORM, length=1000) + b"--edge\r\nContent-Dis"))
        stopped.append(connect(offline, head("POST", ENCODER, "Transfer-Encoding: chunked") + b"1\r\n{\r\n"))
        stopped.append(connect(offline, head("POST", ENCODER, "Content-Encoding: gzip", length=100) + b"\x1f\x8b"))
        for client in stopped:
            assert "the body did not arrive in time: 1 s" in reason(client, 408)
        assert coming(offline) == 0

    def test_a_body_for_an_endpoint_that_takes_none_holds_nothing(self, offline: Bridge) -> None:
        asking = (("GET", "/healthz", 200), ("DELETE", "/nothing", 404), ("GET", "/v1/status", 200))
        waiting = [connect(offline, head(method, path, length=100) + b"{") for method, path, _ in asking]
        assert [answer(client)[0] for client in waiting] == [status for _, _, status in asking]

    def test_a_body_that_trickles_ends_as_well(self, offline: Bridge) -> None:
        client = connect(offline, head("POST", UPLOADS, length=10_000))
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

    def test_a_slow_body_that_goes_on_coming_is_read_to_its_end(self, offline: Bridge) -> None:
        piece, pieces = b" " * 2**16, 12
        client = connect(offline, head("POST", ENCODER, length=len(piece) * pieces + len(ENCODE_BODY)))
        client.settimeout(0.25)
        for _ in range(pieces):
            client.sendall(piece)
            with pytest.raises(TimeoutError):
                client.recv(1)
        client.settimeout(60)
        client.sendall(ENCODE_BODY)
        assert "Kafka" in reason(client, 503), "after three times the time that a silent one has"

    def test_past_the_bound_the_furthest_behind_makes_room(self, offline: Bridge) -> None:
        with ExitStack() as stack:
            stopped = [
                stack.enter_context(connect(offline, head("POST", ENCODER, length=100) + b"{")) for _ in range(60)
            ]
            assert offline.post(ENCODER, json.loads(ENCODE_BODY)).status == 503
            assert coming(offline) <= 20
            assert "20 bodies are arriving, and this one was the furthest behind" in reason(stopped[0], 408)

    def test_three_hundred_bodies_that_stop_keep_nobody_from_an_answer(
        self, kafka: KafkaConfig, tmp_path: Path
    ) -> None:
        images = tmp_path / "images"
        write_groups(images, 1)
        encoder = encoder_consumer.make(Config(kafka=kafka, images_dir=images))
        settings: dict[str, Any] = {"BRIDGE_BODY_TIMEOUT_S": "600", "BRIDGE_IN_FLIGHT": "1"}
        with answering(kafka, encoder), bridge(kafka, tmp_path, **settings) as small, ExitStack() as stack:
            small.wait_ready()
            for n in range(300):
                path = (UPLOADS, ENCODER)[n % 2]
                stack.enter_context(connect(small, head("POST", path, length=1000) + b"{"))
            eventually(lambda: coming(small) == 128)
            for _ in range(20):
                assert small.post(ENCODER, json.loads(ENCODE_BODY)).status == 200
            assert b"imagetools_http_requests_waiting 0.0" in small.get("/metrics").body
            assert "Traceback" not in small.log.read_text()
            # nobody waits twenty minutes for it to end
            small.process.kill()
            small.process.wait()

    def test_a_client_that_leaves_in_mid_body_is_no_fault(self, offline: Bridge) -> None:
        for reset in (False, True):
            left = [connect(offline, head("POST", path, length=100) + b"{") for path in WITH_BODY]
            left.append(connect(offline, head("POST", UPLOADS, FORM, length=100) + b"--edge"))
            eventually(lambda: coming(offline) == len(left))  # noqa: B023
            for client in left:
                if reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            eventually(lambda: coming(offline) == 0)
        text = offline.get("/metrics").body.decode()
        assert 'code="500"' not in text
        assert "a fault while serving" not in offline.log.read_text()


def gzipped(data: bytes) -> bytes:
    # without the time: the parameters name the tests, which are to be the same in every process
    return gzip.compress(data, mtime=0)


class TestCodings:
    @pytest.mark.parametrize(
        ("coding", "body", "status", "word"),
        [
            ("gzip", gzipped(ENCODE_BODY), 503, "Kafka"),
            ("x-gzip", gzipped(ENCODE_BODY[:9]) + gzipped(ENCODE_BODY[9:]), 503, "Kafka"),
            ("GZIP", gzipped(ENCODE_BODY), 503, "Kafka"),
            ("deflate", zlib.compress(ENCODE_BODY), 503, "Kafka"),
            ("deflate", zlib.compress(ENCODE_BODY)[2:-4], 503, "Kafka"),
            ("identity", ENCODE_BODY, 503, "Kafka"),
            ("", ENCODE_BODY, 503, "Kafka"),
            ("gzip", ENCODE_BODY, 400, "not gzip"),
            ("gzip", gzipped(ENCODE_BODY)[:-3], 400, "not gzip"),
            ("gzip", gzipped(ENCODE_BODY) + b"more", 400, "not gzip"),
            ("gzip", b"", 400, "JSON"),
            ("deflate", ENCODE_BODY, 400, "not deflate"),
            ("deflate", zlib.compress(ENCODE_BODY)[:-1], 400, "not deflate"),
            ("deflate", b"", 400, "not deflate"),
            ("br", ENCODE_BODY, 415, "deflate, gzip"),
            ("zstd", ENCODE_BODY, 415, "'zstd'"),
            ("snappy", ENCODE_BODY, 415, "'snappy'"),
            ("gzip, gzip", gzipped(gzipped(ENCODE_BODY)), 415, "'gzip, gzip'"),
        ],
    )
    def test_a_coding_is_undone_or_refused(
        self, offline: Bridge, coding: str, body: bytes, status: int, word: str
    ) -> None:
        assert word in reason(send_request(offline, "POST", ENCODER, body, f"Content-Encoding: {coding}"), status)

    def test_a_coding_that_is_no_text(self, offline: Bridge) -> None:
        assert "not known" in reason(
            send_request(offline, "POST", ENCODER, ENCODE_BODY, b"Content-Encoding: \xe9\xff"), 415
        )
        _, headers, _ = answer(send_request(offline, "POST", ENCODER, ENCODE_BODY, "Content-Encoding: br"))
        assert headers["Accept-Encoding"] == "gzip, deflate"

    def test_a_small_body_that_would_unpack_to_a_gigabyte_is_refused_and_costs_little(self, offline: Bridge) -> None:
        packer, piece = zlib.compressobj(9, zlib.DEFLATED, 31), bytes(2**20)
        bomb = b"".join(packer.compress(piece) for _ in range(1024)) + packer.flush()
        assert len(bomb) < 2**20
        deflated = zlib.compress(bytes(2**28), 9)
        process = psutil.Process(offline.process.pid)
        before = process.memory_info().rss
        for path, coding, body in (
            (ENCODER, "gzip", bomb), (UPLOADS, "gzip", bomb), (UPLOADS, "deflate", deflated),
        ):  # fmt: skip
            assert "when it is unpacked" in reason(
                send_request(offline, "POST", path, body, f"Content-Encoding: {coding}"), 413
            )
        assert "unpacked" in reason(send_request(offline, "POST", UPLOADS, bomb, FORM, "Content-Encoding: gzip"), 413)
        assert answer(send_request(offline, "GET", "/healthz", bomb, "Content-Encoding: gzip"))[0] == 200
        assert process.memory_info().rss - before < 150 * 2**20
