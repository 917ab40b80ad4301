"""HTTP as bytes on a socket, for requests that no client library would send."""

import json
import socket

from tests.support.bridging import Bridge

ENCODE_BODY = json.dumps({"request_id": 1, "relative_path": "0.png"}).encode()


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


def reason(client: socket.socket, status: int) -> str:
    """Why a request was refused, in the envelope."""
    found, headers, body = answer(client)
    assert found == status, body
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Server"] == "imagetools"
    envelope = json.loads(body)
    assert set(envelope) == {"global_status", "error_message", "response"}
    assert (envelope["global_status"], envelope["response"]) == (0, {})
    return str(envelope["error_message"])


def send_request(to: Bridge, method: str, path: str, body: bytes, *headers: str | bytes) -> socket.socket:
    return connect(to, head(method, path, *headers, length=len(body)) + body)
