"""The bridge as a process: opens its ports, serves, and stops."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial

from aiohttp import web
from confluent_kafka import KafkaException

from http_bridge.application import ROOT_HANDLERS, application
from http_bridge.connections import drop_stalled, factory
from http_bridge.contracts import CONTRACTS
from http_bridge.ports import check, naming, ports
from imagetools.logs import configure
from schemas.records import StageState, State
from streams.config import BridgeConfig, KafkaConfig
from streams.exit_codes import ending
from streams.kafka.authorization import require_rights
from streams.traces.base import NO_TRACES, Traces
from streams.traces.start import traced
from streams.watching.states import StateSender

log = logging.getLogger(__name__)

SHUTDOWN_S = 5.0
"""How long open requests may take to finish when the bridge stops."""

RETRY_S = 2.0
"""Between looks whether Kafka answers."""

OPEN_TO_ALL = (
    "BRIDGE_HOST is %s and BRIDGE_TOKEN is not set: anyone who can reach this machine over the network can see, "
    "announce and remove images; set BRIDGE_TOKEN to a secret, or BRIDGE_HOST to 127.0.0.1"
)


async def run(
    config: BridgeConfig,
    *,
    on_listening: Callable[[list[str]], None] = lambda _: None,
    traces: Traces = NO_TRACES,
) -> None:
    """Serve until cancelled, or until SIGTERM or SIGINT.

    ConfigError if a port cannot be opened, PermissionMissing if the cluster does not let the bridge do its work.

    on_listening  receives the addresses, one for each port
    traces        of the requests
    """
    check(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = application(config, traces)
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_S)
    listening: list[asyncio.Server] = []
    try:
        # before connecting, which can take seconds, so that a port in use is reported at once
        for port in ports(config):
            with naming(config.host, port):
                listening.append(await loop.create_server(factory(runner), config.host, port, start_serving=False))
        if config.port is None:
            app[ROOT_HANDLERS].update(zip(map(_port_of, listening), CONTRACTS.values(), strict=True))
        await runner.setup()
        for server in listening:
            with naming(config.host, _port_of(server)):
                await server.start_serving()
        if config.token is None and not config.on_loopback:
            log.warning(OPEN_TO_ALL, config.host)
        dropping = asyncio.create_task(drop_stalled(runner))
        on_listening([replace(config, port=_port_of(server)).address for server in listening])
        await _until(stop, asyncio.create_task(_check_rights(config.kafka)))
        dropping.cancel()
    finally:
        for server in listening:
            server.close()
        await runner.cleanup()


async def _until(stop: asyncio.Event, checking: "asyncio.Task[None]") -> None:
    """Wait for the event. PermissionMissing, as soon as the check finds out."""
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({stopped, checking}, return_when=asyncio.FIRST_COMPLETED)
    if checking.done():
        checking.result()
    await stopped
    checking.cancel()


async def _check_rights(kafka: KafkaConfig) -> None:
    """Return when Kafka answers and lets the bridge do its work. PermissionMissing."""
    while True:
        try:
            await asyncio.to_thread(require_rights, kafka, "bridge")
            return
        except KafkaException:
            # /readyz says that it is away
            await asyncio.sleep(RETRY_S)


def main(config: BridgeConfig | None = None) -> None:
    """Serve until SIGTERM or SIGINT. SystemExit with the exit code if it cannot."""
    configure(json_lines=config is not None and config.log_format == "json")
    with ending():
        config = config or BridgeConfig.from_env()
        with traced(config.traces, "bridge", config.kafka.member) as traces:
            asyncio.run(run(config, on_listening=partial(_tell, config.kafka), traces=traces))


def _tell(kafka: KafkaConfig, addresses: list[str]) -> None:
    log.info("listening on %s", ", ".join(addresses))
    if kafka.restarts and kafka.member:
        # the supervisor has reported its death
        asyncio.get_running_loop().run_in_executor(None, _report_return, kafka, kafka.member)


def _report_return(kafka: KafkaConfig, member: str) -> None:
    """Report on stage.states that a bridge which had died serves again."""
    with closing(StateSender(kafka)) as sender:
        sender.send(StageState("bridge", member, socket.gethostname(), State.RUNNING, restarts=kafka.restarts))


def _port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])
