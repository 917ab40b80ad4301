"""GET /metrics, /healthz and /readyz of one stage's process, on threads beside the stage."""

import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from imagetools.errors import ConfigError
from streams.watching.health import Probe
from streams.watching.metrics import StageMetrics

log = logging.getLogger(__name__)

SILENCE_S = 10.0
"""How long a client may send nothing."""

Respond = Callable[[str, list[tuple[str, str]]], Any]


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Serves one WSGI application."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking a name server for this machine's name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a fault as the rest of the process does. A client that hangs up is none."""
        if not isinstance(sys.exception(), OSError):
            log.exception("metrics: a request from %s failed", client_address)


class _SixServer(MetricsServer):
    """Listens on an address of IPv6."""

    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    timeout = SILENCE_S

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a scrape every few seconds says nothing about the stage."""


@contextmanager
def serving(metrics: StageMetrics, host: str, port: int) -> Iterator[int]:
    """Serve while the context is open; gives the port, which is a free one for 0.

    ConfigError where the port cannot be opened.
    """
    server = _listen(host, port)
    server.set_app(_application(metrics))
    thread = threading.Thread(target=server.serve_forever, name="metrics")
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _listen(host: str, port: int) -> MetricsServer:
    try:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return (_SixServer if family is socket.AF_INET6 else MetricsServer)((host, port), _QuietHandler)
    except OSError as exc:
        raise ConfigError(
            f"metrics: port {port} on {host}: {exc.strerror or exc}; METRICS_PORT and METRICS_HOST name others"
        ) from exc


def _application(metrics: StageMetrics) -> Callable[[dict[str, Any], Respond], Iterable[bytes]]:
    exposition = make_wsgi_app(metrics.registry)
    probes = {"/healthz": metrics.health.alive, "/readyz": metrics.health.ready}

    def answer(environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            answered: Iterable[bytes] = exposition(environ, respond)
            return answered
        if path not in probes:
            return _json(respond, HTTPStatus.NOT_FOUND, "there are /metrics, /healthz and /readyz")
        probe: Probe = probes[path]()
        return _json(respond, HTTPStatus.OK if probe.good else HTTPStatus.SERVICE_UNAVAILABLE, probe.words)

    return answer


def _json(respond: Respond, status: HTTPStatus, words: str) -> list[bytes]:
    respond(f"{status.value} {status.phrase}", [("Content-Type", "application/json")])
    return [json.dumps({"status": words}).encode()]
