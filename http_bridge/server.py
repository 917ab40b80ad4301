"""The bridge as a process: its application, its ports, its end."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from aiohttp import web

from http_bridge import alerts, contracts, duplicates, images, metrics, monitor, openapi, security
from http_bridge.alerts import ALERTS, Alerts
from http_bridge.arrivals import ARRIVALS, Arrivals
from http_bridge.connections import drop_stalled, factory
from http_bridge.duplicates import UPLOADS, Uploads
from http_bridge.image_states import IMAGE_STATES, ImageStates
from http_bridge.images import IMAGES, Images
from http_bridge.metrics import METRICS, Metrics
from http_bridge.monitor import MONITOR, Monitor
from http_bridge.openapi import DOCUMENT
from http_bridge.pages import Pages
from http_bridge.ports import check, refused
from http_bridge.stages import STAGES, Stages
from imagetools.decode import ImageRoot
from imagetools.logs import configure
from streams.config import BridgeConfig
from streams.exit_codes import ending
from streams.requests.client import RequestClient

log = logging.getLogger(__name__)

RECONNECT_MS = 1000
"""The longest pause before a lost broker is tried again; the client's own default is ten seconds."""

SHUTDOWN_S = 5.0
"""How long requests at hand may take to end."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN_TO_ALL = (
    "BRIDGE_HOST is %s and BRIDGE_TOKEN is not set: everybody who reaches this machine over the network can see the "
    "images, and announce and remove them; set BRIDGE_TOKEN to a secret of yours, or BRIDGE_HOST to 127.0.0.1"
)

ROOTS = web.AppKey("roots", dict[int, Handler])
"""What POST / is on each port."""


def application(config: BridgeConfig) -> web.Application:
    """Everything that is served; it connects to Kafka when it starts, and again whenever it has to."""
    counted = Metrics()
    guard = security.guard(config.token, loopback=config.on_loopback)
    app = web.Application(middlewares=[counted.count, security.tell_errors, guard])
    app[METRICS] = counted
    app[ROOTS] = {}
    app[ARRIVALS] = Arrivals(timeout_s=config.body_timeout_s, bound=config.bodies)
    app[ARRIVALS].show(counted.registry)
    app[DOCUMENT] = openapi.document(token=config.token is not None)
    app.on_response_prepare.append(security.add_headers)
    app.cleanup_ctx.append(lambda app: _connected(app, config))
    app.on_shutdown.append(_hush)
    pages = Pages(config.token)
    for path, handler in contracts.CONTRACTS.items():
        app.router.add_post(path, handler)
    app.router.add_post("/", _root)
    app.router.add_post("/v1/duplicates", duplicates.duplicates)
    app.router.add_get("/v1/duplicates/stream", alerts.stream, allow_head=False)
    app.router.add_post("/v1/images", images.announce)
    app.router.add_get(images.ROUTE + "{path:(?s:.+)}", images.state)
    app.router.add_get(images.PICTURES + "{path:(?s:.+)}", images.show)
    app.router.add_delete(images.ROUTE + "{path:(?s:.+)}", images.remove)
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
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_S)
    listening: list[asyncio.Server] = []
    try:
        # before anything is connected, which can take seconds: a port that is taken is told at once
        for port, handler in _ports(config):
            with _named(config.host, port):
                listening.append(await loop.create_server(factory(runner), config.host, port, start_serving=False))
            if handler is not None:
                app[ROOTS][_port_of(listening[-1])] = handler
        await runner.setup()
        for server in listening:
            with _named(config.host, _port_of(server)):
                await server.start_serving()
        if config.token is None and not config.on_loopback:
            log.warning(OPEN_TO_ALL, config.host)
        dropping = asyncio.create_task(drop_stalled(runner))
        on_listening([replace(config, port=_port_of(server)).address for server in listening])
        await stop.wait()
        dropping.cancel()
    finally:
        for server in listening:
            server.close()
        await runner.cleanup()


@contextmanager
def _named(host: str, port: int) -> Iterator[None]:
    """ConfigError that names the setting, where an address cannot be had."""
    try:
        yield
    except (OSError, UnicodeError) as exc:
        raise refused(host, port, exc) from exc


def _port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


def main(config: BridgeConfig | None = None) -> None:
    """Serve until SIGTERM or SIGINT. SystemExit with the exit code where it cannot."""
    configure()
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
    became = ImageStates(kafka, config.bridge_dir)
    client = RequestClient(kafka)
    watching, following = Monitor(kafka, client), Alerts(kafka)
    pictures = Images(kafka, ImageRoot(config.images_dir), pool)
    app[STAGES] = Stages(client, timeout_s=config.timeout_s, bound=config.in_flight)
    app[MONITOR], app[ALERTS], app[IMAGES] = watching, following, pictures
    app[UPLOADS], app[IMAGE_STATES] = Uploads(pool, config.neighbors), became
    app[METRICS].watch(watching, app[STAGES], following)
    yield
    for one in (watching, client, following, pictures, became):
        await asyncio.to_thread(one.close)
    await asyncio.to_thread(pool.shutdown)


async def _hush(app: web.Application) -> None:
    app[ALERTS].hush()
