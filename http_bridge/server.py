"""The bridge as a process: its application, its ports, its end."""

import asyncio
import ipaddress
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from aiohttp import web

from http_bridge import alerts, contracts, duplicates, images, metrics, monitor, openapi, safety
from http_bridge.alerts import ALERTS, Alerts
from http_bridge.duplicates import UPLOADS, Uploads
from http_bridge.images import IMAGES, Images
from http_bridge.metrics import METRICS, Metrics
from http_bridge.monitor import MONITOR, Monitor
from http_bridge.openapi import DOCUMENT
from http_bridge.pages import Pages
from http_bridge.ports import check, refused
from http_bridge.stages import STAGES, Stages
from imagetools.decode import ImageRoot
from streams.asking import Asker
from streams.config import BridgeConfig
from streams.exit_codes import ending

log = logging.getLogger(__name__)

RECONNECT_MS = 1000
"""The longest pause before a lost broker is tried again; the client's own default is ten seconds."""

SHUTDOWN_S = 5.0
"""How long requests at hand may take to end."""

MOST_LINE = 64 * 1024
"""Bytes of a request's first line: a path of 4,096 characters, each as four %XX, and more."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ROOTS = web.AppKey("roots", dict[int, Handler])
"""What POST / is on each port."""


def application(config: BridgeConfig) -> web.Application:
    """Everything that is served; it connects to Kafka when it starts, and again whenever it has to."""
    counted = Metrics()
    guard = safety.guard(config.token, loopback=_is_loopback(config.host))
    app = web.Application(middlewares=[counted.count, safety.tell_errors, guard])
    app[METRICS] = counted
    app[ROOTS] = {}
    app[DOCUMENT] = openapi.document(token=config.token is not None)
    app.on_response_prepare.append(safety.add_headers)
    app.cleanup_ctx.append(lambda app: _connected(app, config))
    app.on_shutdown.append(_hush)
    pages = Pages(config.token)
    for path, handler in contracts.CONTRACTS.items():
        app.router.add_post(path, handler)
    app.router.add_post("/", _root)
    app.router.add_post("/v1/duplicates", duplicates.duplicates)
    app.router.add_get("/v1/duplicates/stream", alerts.stream, allow_head=False)
    app.router.add_post("/v1/images", images.announce)
    app.router.add_get("/v1/images/{path:.+}", images.show)
    app.router.add_delete("/v1/images/{path:.+}", images.remove)
    app.router.add_get("/v1/status", monitor.status)
    app.router.add_get("/healthz", monitor.alive)
    app.router.add_get("/readyz", monitor.ready)
    app.router.add_get("/metrics", metrics.metrics)
    app.router.add_get("/openapi.json", openapi.openapi)
    app.router.add_get("/docs", pages.docs)
    app.router.add_get("/assets/{name}", pages.asset)
    app.router.add_get("/sign-in", pages.door)
    app.router.add_post("/sign-in", pages.enter)
    app.router.add_get("/", pages.home)
    return app


async def run(config: BridgeConfig, *, on_listening: Callable[[list[str]], None] = lambda _: None) -> None:
    """Serve until cancelled, or until SIGTERM or SIGINT. ConfigError where a port cannot be had.

    on_listening  told the addresses, one for each port
    """
    check(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = application(config)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S, max_line_size=MOST_LINE)
    await runner.setup()
    try:
        addresses = []
        for port, handler in _ports(config):
            site = web.TCPSite(runner, config.host, port)
            try:
                await site.start()
            except OSError as exc:
                raise refused(config.host, port, exc) from exc
            number = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
            if handler is not None:
                app[ROOTS][number] = handler
            addresses.append(replace(config, port=number).address)
        on_listening(addresses)
        await stop.wait()
    finally:
        await runner.cleanup()


def main(config: BridgeConfig | None = None) -> None:
    """Serve until SIGTERM or SIGINT. SystemExit with the exit code where it cannot."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    with ending():
        asyncio.run(run(config or BridgeConfig.from_env(), on_listening=_tell))


def _tell(addresses: list[str]) -> None:
    log.info("listening on %s", ", ".join(addresses))


def _ports(config: BridgeConfig) -> list[tuple[int, Handler | None]]:
    if config.port is not None:
        return [(config.port, None)]
    return list(zip(config.contract_ports, contracts.CONTRACTS.values(), strict=True))


async def _root(request: web.Request) -> web.StreamResponse:
    """POST /: this port's own contract, if it has one."""
    transport = request.transport
    port: int = transport.get_extra_info("sockname")[1] if transport is not None else -1
    handler = request.app[ROOTS].get(port)
    if handler is None:
        raise web.HTTPMethodNotAllowed("POST", ["GET", "HEAD"])
    return await handler(request)


async def _connected(app: web.Application, config: BridgeConfig) -> AsyncIterator[None]:
    """What handlers ask, from the application's start to its end."""
    # quietly: what goes wrong is said by /readyz and in answers, not by the client's own log
    own = {"log_level": "2", "reconnect.backoff.max.ms": str(RECONNECT_MS)}
    kafka = replace(config.kafka, settings=own | dict(config.kafka.settings))
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "pictures")
    asker = Asker(kafka)
    watching, following = Monitor(kafka, asker), Alerts(kafka)
    pictures = Images(kafka, ImageRoot(config.images_dir), pool)
    app[STAGES] = Stages(asker, timeout_s=config.timeout_s, bound=config.in_flight)
    app[MONITOR], app[ALERTS], app[IMAGES] = watching, following, pictures
    app[UPLOADS] = Uploads(pool, config.neighbors)
    app[METRICS].watch(watching, app[STAGES], following)
    yield
    for one in (watching, asker, following, pictures):
        await asyncio.to_thread(one.close)
    await asyncio.to_thread(pool.shutdown)


async def _hush(app: web.Application) -> None:
    app[ALERTS].hush()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
