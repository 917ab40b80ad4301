"""The ports that a bridge listens on, and the error for one that it cannot open."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from imagetools.errors import ConfigError
from streams.config import BridgeConfig


def ports(config: BridgeConfig) -> tuple[int, ...]:
    """Return the one port, or those of the three contracts in the order of `contracts.CONTRACTS`."""
    return config.contract_ports if config.port is None else (config.port,)


def check(config: BridgeConfig) -> None:
    """Raise ConfigError if a bridge could not listen right now."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    for port in ports(config):
        with socket.socket(family) as probe, naming(config.host, port):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((config.host, port))


@contextmanager
def naming(host: str, port: int) -> Iterator[None]:
    """Turn an error of the operating system into a ConfigError that names the setting to change."""
    try:
        yield
    except (OSError, UnicodeError) as exc:
        if isinstance(exc, (socket.gaierror, UnicodeError)) or exc.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(
                f"BRIDGE_HOST is {host!r}, which is not an address of this machine; --bridge-host 127.0.0.1 listens on "
                "this machine alone, 0.0.0.0 on all its addresses"
            ) from exc
        reason = os.strerror(exc.errno) if exc.errno else exc
        who = " (by another imagetools, perhaps)" if exc.errno == errno.EADDRINUSE else ""
        raise ConfigError(f"port {port} on {host}: {reason}{who}; SERVER_PORT or --server-port names another") from exc
