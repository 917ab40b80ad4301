"""Images on a web server: what is read, what is refused, and that nothing leads elsewhere."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from imagetools import web_storage
from imagetools.decode import DecodeConfig
from imagetools.errors import (
    ConfigError,
    ImageRootUnavailable,
    ImageTooLarge,
    MissingImage,
    OutsideRoot,
    UnreadableImage,
)
from imagetools.image_root import ImageRoot


class WebServer(ThreadingHTTPServer):
    """Serves /pre/NAME: each name is one of the cases below.

    asked  paths of all requests
    fails  how many requests for `flaky` still fail
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.fails = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/pre"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        name = self.path.removeprefix("/pre/")
        if name == "elsewhere.png":
            self._answer(302, b"", Location="http://127.0.0.1:1/secret")
        elif name == "flaky.png" and self.server.fails:
            self.server.fails -= 1
            self._answer(503, b"")
        elif name in ("cut.png", "half.png") and (name == "cut.png" or self.server.fails):
            self.server.fails -= 1
            self._answer(200, b"only this", **{"Content-Length": "1000"})
            self.close_connection = True
        elif name == "endless.png":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            self.close_connection = True
        elif name[:3].isdigit():
            self._answer(int(name[:3]), b"")
        else:
            self._answer(200, f"bytes of {name}".encode(), ETag='"1"')

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for header, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(header, value)
        self.send_header("Last-Modified", "Tue, 03 Nov 2026 10:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(server: WebServer) -> Iterator[WebServer]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setattr(web_storage, "RETRY", web_storage.RETRY.new(total=3, backoff_factor=0.01))
    with serving(WebServer()) as running:
        yield running


@pytest.fixture
def images(server: WebServer) -> ImageRoot:
    return ImageRoot(server.address, private=True)


def test_a_file_is_read_by_its_path_and_known_by_its_tag(images, server):
    data, state = images.read_with_state("a b/ü#1?.png")
    assert data == b"bytes of a%20b/%C3%BC%231%3F.png"
    assert state == images.state("a b/ü#1?.png") == '"1"'
    assert images.status("a.png").modified == datetime(2026, 11, 3, 10, tzinfo=UTC)
    images.require()


def test_no_path_leads_out(images, server):
    for path in ("../a.png", "x/../../a.png", "/a.png"):
        with pytest.raises(OutsideRoot):
            images.read(path)
    assert server.asked == []


def test_no_redirect_is_followed(images, server):
    for use in (images.read, images.status):
        with pytest.raises(UnreadableImage, match="redirects are not followed"):
            use("elsewhere.png")
    assert server.asked == ["/pre/elsewhere.png"] * 2


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("404.png", MissingImage),
        ("410.png", MissingImage),
        ("403.png", UnreadableImage),
        ("418.png", UnreadableImage),
        ("401.png", ImageRootUnavailable),
        ("407.png", ImageRootUnavailable),
        ("429.png", ImageRootUnavailable),
        ("500.png", ImageRootUnavailable),
        ("503.png", ImageRootUnavailable),
    ],
)
def test_who_is_to_blame_for_an_answer(path, error, images):
    for use in (images.read, images.status):
        with pytest.raises(error):
            use(path)


def test_what_fails_for_a_moment_is_asked_for_again(images, server):
    server.fails = 2
    assert images.read("flaky.png") == b"bytes of flaky.png"
    server.fails = 2
    assert images.read("half.png") == b"bytes of half.png"


def test_a_body_that_ends_early_is_never_taken_for_whole(images):
    with pytest.raises(ImageRootUnavailable, match=r"cut.png in http://.*: the answer ends early"):
        images.read("cut.png")


def test_bytes_are_capped_whether_or_not_their_number_is_announced(server):
    images = ImageRoot(server.address, DecodeConfig(max_bytes=10), private=True)
    with pytest.raises(ImageTooLarge, match="14 bytes, the limit is 10"):
        images.read("a.png")
    with pytest.raises(ImageTooLarge, match="more than 10 bytes"):
        images.read("endless.png")


def test_a_server_that_is_not_there_blames_no_image(server):
    images = ImageRoot("http://127.0.0.1:1/pre", private=True)
    for use in (images.read, images.status, images.state):
        with pytest.raises(ImageRootUnavailable, match="Connection refused"):
            use("a.png")


def test_it_has_no_list(images):
    with pytest.raises(ConfigError, match="announce them by a list of paths"):
        images.images()


def test_without_tls_or_at_a_private_address_only_if_that_is_allowed(server, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="use https, or set IMAGES_PRIVATE=yes"):
        ImageRoot(server.address)
    certificate = certify(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    secure = WebServer()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    with serving(secure):
        address = f"https://localhost:{secure.server_port}/pre"
        with pytest.raises(ImageRootUnavailable, match=r"private address 127.0.0.1; IMAGES_PRIVATE=yes allows it"):
            ImageRoot(address).read("a.png")
        assert secure.asked == [], "nothing was asked for"
        assert ImageRoot(address, private=True).read("a.png") == b"bytes of a.png"


def certify(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file
