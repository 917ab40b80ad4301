"""The ports that a bridge listens on, and what to do where one cannot be had."""

import errno
import os
import socket

from imagetools.errors import ConfigError
from streams.config import BridgeConfig


def ports(config: BridgeConfig) -> tuple[int, ...]:
    """The one port, or those of the three contracts."""
    return config.contract_ports if config.port is None else (config.port,)


def check(config: BridgeConfig) -> None:
    """ConfigError where a bridge could not listen at this moment."""
    for port in ports(config):
        with socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((config.host, port))
            except (OSError, UnicodeError) as exc:
                raise refused(config.host, port, exc) from exc


def refused(host: str, port: int, exc: OSError | UnicodeError) -> ConfigError:
    """What a person can do about a port that cannot be had."""
    if isinstance(exc, (socket.gaierror, UnicodeError)) or exc.errno == errno.EADDRNOTAVAIL:
        return ConfigError(
            f"BRIDGE_HOST is {host!r}: no address of this machine; --bridge-host 127.0.0.1 is one, 0.0.0.0 is all"
        )
    why = os.strerror(exc.errno) if exc.errno else exc
    return ConfigError(f"port {port} on {host}: {why}; SERVER_PORT or --server-port names another")
