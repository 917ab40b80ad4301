"""The aiohttp application: routes, middlewares, and what the handlers use."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from aiohttp import web

from http_bridge import (
    contracts,
    dead_letters,
    decisions,
    duplicates,
    event_stream,
    groups,
    images,
    metrics,
    monitor,
    openapi,
    security,
)
from http_bridge.alert_feed import ALERT_FEED, AlertFeed, decision_event, group_event
from http_bridge.dead_letter_tables import DeadLetterTables
from http_bridge.dead_letters import DEAD_LETTER_DESK, DeadLetterDesk
from http_bridge.decision_desk import DECISION_DESK, DecisionDesk
from http_bridge.duplicates import UPLOADS, Uploads
from http_bridge.group_tables import GroupTables
from http_bridge.groups import GROUPS_ROUTE
from http_bridge.image_states import IMAGE_STATES, ImageStates
from http_bridge.image_tables import ImageTables
from http_bridge.images import IMAGES, IMAGES_ROUTE, PICTURES_ROUTE, Images
from http_bridge.incoming_bodies import INCOMING_BODIES, IncomingBodies
from http_bridge.metrics import METRICS, Metrics
from http_bridge.monitor import MONITOR, Monitor
from http_bridge.openapi import DOCUMENT
from http_bridge.pages import Pages
from http_bridge.request_traces import request_traces
from http_bridge.stage_client import STAGE_CLIENT, StageClient
from http_bridge.topic_view import TOPIC_VIEW, TopicView
from imagetools.hardware import usable_cores
from imagetools.image_root import ImageRoot
from streams.config import BridgeConfig
from streams.kafka.clients import MAX_BACKOFF_MS
from streams.requests.client import RequestClient
from streams.traces.base import NO_TRACES, Traces

MAX_THREADS = 4

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ROOT_HANDLERS = web.AppKey("root_handlers", dict[int, Handler])
"""The handler of POST / on each port that has one."""

PATH = "{path:(?s:.+)}"


def application(config: BridgeConfig, traces: Traces = NO_TRACES) -> web.Application:
    """Build the application; it connects to Kafka when it starts, and reconnects whenever it must.

    traces  of requests, and of the messages that they send
    """
    counted = Metrics()
    access = security.access_control(config.token, loopback=config.on_loopback)
    traced = [request_traces(traces)] if traces.on else []
    app = web.Application(middlewares=[counted.count, security.handle_errors, access, *traced])
    app[METRICS] = counted
    app[ROOT_HANDLERS] = {}
    app[INCOMING_BODIES] = IncomingBodies(timeout_s=config.body_timeout_s, max_bodies=config.bodies)
    app[INCOMING_BODIES].register_metrics(counted.registry)
    app[DOCUMENT] = openapi.document(token=config.token is not None)
    app.on_response_prepare.append(security.add_headers)
    app.cleanup_ctx.append(lambda app: _connections(app, config, traces))
    app.on_shutdown.append(_end_streams)
    _add_routes(app.router, Pages(config.token))
    return app


def _add_routes(router: web.UrlDispatcher, pages: Pages) -> None:
    for path, handler in contracts.CONTRACTS.items():
        router.add_post(path, handler)
    router.add_post("/", _root)
    router.add_post("/v1/duplicates", duplicates.duplicates)
    router.add_get("/v1/duplicates/stream", event_stream.stream, allow_head=False)
    router.add_post("/v1/images", images.announce)
    router.add_get(IMAGES_ROUTE + PATH, images.state)
    router.add_get(PICTURES_ROUTE + PATH, images.picture)
    router.add_delete(IMAGES_ROUTE + PATH, images.remove)
    router.add_get("/v1/groups", groups.groups)
    router.add_get(GROUPS_ROUTE + PATH, groups.group)
    router.add_post("/v1/decisions", decisions.decide)
    router.add_get("/v1/decisions", decisions.decisions)
    router.add_delete("/v1/decisions/{id}", decisions.undo)
    router.add_get("/v1/dead-letters", dead_letters.dead_letters)
    router.add_post("/v1/dead-letters/replay", dead_letters.replay)
    router.add_get("/v1/status", monitor.status)
    router.add_get("/healthz", monitor.alive)
    router.add_get("/readyz", monitor.ready)
    router.add_get("/metrics", metrics.metrics)
    router.add_get("/openapi.json", openapi.openapi)
    router.add_get("/alerts", pages.alerts)
    router.add_get("/dead-letters", pages.dead_letters)
    router.add_get("/docs", pages.docs)
    router.add_get("/assets/{name}", pages.asset)
    router.add_get("/favicon.ico", pages.icon)
    router.add_get("/sign-in", pages.sign_in_form)
    router.add_post("/sign-in", pages.sign_in)
    router.add_get("/", pages.home)


async def _root(request: web.Request) -> web.StreamResponse:
    """Handle POST / by the contract of the port that the request came to."""
    transport = request.transport
    port: int = transport.get_extra_info("sockname")[1] if transport is not None else -1
    handler = request.app[ROOT_HANDLERS].get(port)
    if handler is None:
        raise web.HTTPMethodNotAllowed("POST", ["GET", "HEAD"])
    return await handler(request)


async def _connections(app: web.Application, config: BridgeConfig, traces: Traces) -> AsyncIterator[None]:
    """Connect what the handlers use when the application starts, and close it when it ends."""
    soon = {"reconnect.backoff.max.ms": str(MAX_BACKOFF_MS)}
    kafka = replace(config.kafka, settings=soon | dict(config.kafka.settings))
    pool = ThreadPoolExecutor(min(MAX_THREADS, usable_cores()), "pictures")
    image_tables = ImageTables()
    group_tables = GroupTables(
        lambda offset, answer: alerts.publish(group_event(offset, answer)),
        lambda answer: alerts.publish(decision_event(answer)),
    )
    # first, since its folder may be refused
    view = TopicView(kafka, config.bridge_dir, [image_tables, group_tables, DeadLetterTables(kafka)])
    client = RequestClient(kafka, traces=traces)
    watched, alerts = Monitor(kafka, client), AlertFeed(kafka)
    announced = Images(kafka, ImageRoot(config.images_dir, private=config.images_private), pool, traces=traces)
    desk = DecisionDesk(kafka, view, group_tables, announced, traces=traces)
    app[STAGE_CLIENT] = StageClient(client, timeout_s=config.timeout_s, max_in_flight=config.in_flight)
    app[MONITOR], app[ALERT_FEED], app[IMAGES] = watched, alerts, announced
    app[UPLOADS], app[IMAGE_STATES] = Uploads(pool, config.neighbors), ImageStates(view, image_tables)
    app[TOPIC_VIEW], app[DECISION_DESK], app[DEAD_LETTER_DESK] = view, desk, DeadLetterDesk(kafka)
    app[METRICS].watch(watched, app[STAGE_CLIENT], alerts)
    view.start()
    yield
    for one in (view, watched, client, alerts, announced, desk):
        await asyncio.to_thread(one.close)
    await asyncio.to_thread(pool.shutdown)


async def _end_streams(app: web.Application) -> None:
    app[ALERT_FEED].end_subscriptions()
