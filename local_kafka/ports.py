"""Free ports of 127.0.0.1."""

import socket
from contextlib import ExitStack


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are free at the moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def is_free(port: int) -> bool:
    """Return whether a server could listen on this port of 127.0.0.1 at the moment."""
    with socket.socket() as probe:
        # as Java does: a port in TIME_WAIT is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
