"""Who may ask: tokens, sessions, origins and hosts, and the security headers."""

import random
from collections.abc import Iterator

import pytest

from streams.config import KafkaConfig
from tests.support.bridging import (
    ENCODER,
    UPLOADS,
    Bridge,
    Service,
    bridge,
)
from tests.support.raw_http import ENCODE_BODY, answer, connect, head, reason, send_request


class TestSecurity:
    def test_with_a_token_only_health_is_open(self, service: Service) -> None:
        with bridge(service.kafka, service.folder, BRIDGE_TOKEN="a secret") as locked:
            locked.wait_ready()
            assert locked.get("/healthz").status == 200
            body = {"request_id": 1, "relative_path": "0.png"}
            for method, path in (
                ("POST", ENCODER), ("POST", "/"), ("POST", "/v1/duplicates"), ("POST", "/v1/images"), ("GET", "/"),
                ("GET", "/v1/images/0.png"), ("GET", "/v1/pictures/0.png"), ("DELETE", "/v1/images/0.png"),
                ("GET", "/v1/duplicates/stream"), ("GET", "/metrics"), ("GET", "/v1/status"),
                ("GET", "/openapi.json"), ("GET", "/docs"),
            ):  # fmt: skip
                answer = locked.ask(method, path, body if method == "POST" else None)
                assert (answer.status, answer.json["global_status"]) == (401, 0), path
                assert answer.headers["WWW-Authenticate"] == "Bearer"
            for wrong in ("Bearer wrong", "Bearer", "Basic a secret", "Bearer é"):
                headers = {"Authorization": wrong.encode().decode("latin-1")}
                assert locked.post(ENCODER, body, headers=headers).status == 401
            assert locked.post(ENCODER, body, headers={"Authorization": "Bearer a secret"}).status == 200
            assert "a secret" not in locked.log.read_text()

    def test_a_browser_signs_in_at_a_door(self, service: Service) -> None:
        with bridge(service.kafka, service.folder, BRIDGE_TOKEN="a secret") as locked:
            answer = locked.get("/", headers={"Accept": "text/html"})
            assert (answer.status, answer.headers["Location"]) == (303, "/sign-in")
            assert b"<form" in locked.get("/sign-in").body
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            assert locked.post("/sign-in", b"token=wrong", headers=form).status == 401
            answer = locked.post("/sign-in", b"token=a+secret", headers=form)
            assert answer.status == 303
            cookie = answer.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert "secret" not in cookie
            assert locked.get("/", headers={"Cookie": cookie.partition(";")[0]}).status == 200
            assert locked.get("/", headers={"Cookie": "imagetools=guess"}).status == 401

    def test_every_answer_has_security_headers(self, service: Service) -> None:
        for path in (
            "/",
            "/docs",
            "/nothing",
            "/v1/images/0.png",
            "/v1/pictures/0.png",
            "/metrics",
            ENCODER,
            "/assets/app.js",
        ):
            headers = service.bridge.get(path).headers
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "unsafe-inline" not in headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
            assert headers["Server"] == "imagetools"

    def test_the_icon_is_where_browsers_look_for_it(self, service: Service) -> None:
        answer = service.bridge.get("/favicon.ico")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "image/svg+xml; charset=utf-8")
        assert answer.body.startswith(b"<svg")

    def test_a_page_of_another_origin_may_not_ask(self, service: Service) -> None:
        body = {"relative_path": "0.png"}
        there = {"Origin": "https://evil.example"}
        assert service.bridge.post("/v1/images", body, headers=there).status == 403
        here = {"Origin": service.bridge.url}
        assert service.bridge.get("/v1/status", headers=here).status == 200
        assert service.bridge.get("/v1/status", headers={"Host": "evil.example"}).status == 403

    def test_assets_are_the_packages_own(self, service: Service) -> None:
        for name in ("..%2fserver.py", "__init__.py", "nothing.js", "%2e%2e"):
            assert service.bridge.get(f"/assets/{name}").status in {403, 404}


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
        reason(connect(locked, head("GET", "/v1/status", header)), 401)

    def test_a_token_beyond_ascii_is_known(self, locked: Bridge) -> None:
        token = "Authorization: Bearer sésame"
        assert answer(connect(locked, head("GET", "/v1/status", token)))[0] == 200
        _, headers, _ = answer(send_request(locked, "POST", "/sign-in", b"token=s%C3%A9same"))
        cookie = headers["Set-Cookie"].partition(";")[0]
        assert answer(connect(locked, head("GET", "/v1/status", f"Cookie: {cookie}")))[0] == 200

    @pytest.mark.parametrize(
        "header", [b"Origin: http://\xe9", b"Origin: http://[", b"Origin: \xff", b"Origin: http://[::1"]
    )
    def test_an_origin_that_is_none_may_not_ask(self, offline: Bridge, header: bytes) -> None:
        assert "may not ask here" in reason(connect(offline, head("GET", "/v1/status", header)), 403)

    @pytest.mark.parametrize("host", [b"[", b"\xe9", b"[::1", b"localhost:port", b"a" * 3000])
    def test_a_host_that_is_none_is_not_this_machine(self, offline: Bridge, host: bytes) -> None:
        client = connect(offline, b"GET /v1/status HTTP/1.1\r\nConnection: close\r\nHost: " + host + b"\r\n\r\n")
        assert answer(client)[0] in {200 if host.startswith(b"localhost") else 403}

    def test_any_bytes_in_any_header_are_the_clients_fault_alone(self, offline: Bridge) -> None:
        chance = random.Random(11)
        names = ["Accept", "Authorization", "Content-Type", "Content-Encoding", "Cookie", "Expect", "Host", "Origin",
                 "Last-Event-ID", "Range", "Transfer-Encoding", "Upgrade", "X-Forwarded-Proto"]  # fmt: skip
        starts = [b"", b"multipart/form-data; boundary=", b"text/", b"Bearer ", b"imagetools=", b"http://[", b"bytes="]
        for _ in range(300):
            name = chance.choice(names)
            value = chance.choice(starts) + bytes(chance.choice(range(32, 256)) for _ in range(chance.randrange(12)))
            method, path = chance.choice([("GET", "/v1/status"), ("POST", UPLOADS), ("POST", ENCODER), ("GET", "/")])
            body = ENCODE_BODY if method == "POST" else b""
            status, _, _ = answer(send_request(offline, method, path, body, name.encode() + b": " + value))
            assert status < 500 or status == 503, (name, value, path)
        assert "Traceback" not in offline.log.read_text()
