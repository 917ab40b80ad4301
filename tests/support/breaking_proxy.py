"""A TCP proxy that slows and breaks connections, as networks and overloaded servers do."""

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from urllib.parse import urlsplit

_TOO_MANY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
SLOW_DOWN = b"HTTP/1.1 503 Slow Down\r\nContent-Length: %d\r\n\r\n%b" % (len(_TOO_MANY), _TOO_MANY)
"""What S3 answers to too many requests."""


class BreakingProxy:
    """Passes connections on to a server.

    requests   seen so far; a request is what a client sends in one go
    delay_s    before a request is passed on
    cut_after  bytes of answers after which a connection ends; None: never
    cuts       how many connections are still cut
    refusals   how many requests are still answered with `refusal`, and not passed on
    """

    def __init__(self, target: str) -> None:
        """Start on a free port. target: http://host:port"""
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self.requests = self.cuts = self.refusals = 0
        self.delay_s = 0.0
        self.cut_after: int | None = None
        self.refusal = SLOW_DOWN
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "BreakingProxy":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # closing alone leaves the thread that waits in it
        _end(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answers = threading.Thread(target=self._answers, args=(server, client), daemon=True)
            answers.start()
            self._requests(client, server)
            answers.join()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                with self._lock:
                    self.requests += 1
                    refused = self.refusals > 0
                    self.refusals -= refused
                if self.delay_s:
                    time.sleep(self.delay_s)
                if refused:
                    client.sendall(self.refusal)
                else:
                    server.sendall(data)
        _end(server)

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := server.recv(65536):
                passed += len(data)
                if self.cut_after is not None and passed > self.cut_after and self.cuts > 0:
                    self.cuts -= 1
                    client.sendall(data[: max(0, len(data) - (passed - self.cut_after))])
                    break
                client.sendall(data)
        _end(client)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
