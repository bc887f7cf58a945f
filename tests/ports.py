"""Ports for what a test starts."""

from __future__ import annotations

import random
import socket
from contextlib import suppress


def free_port(count: int = 1) -> int:
    """An even port of loopback that was free a moment ago, for UDP and for TCP; so were the next even ones.

    None that the system gives away by itself: an engine that is started anew still wants it.
    """
    while True:
        port = random.randrange(10_000, 20_000, 2)
        if all(_is_free(port + 2 * nth) for nth in range(count)):
            return port


def _is_free(port: int) -> bool:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket() as tcp,
        suppress(OSError),
    ):
        udp.bind(("127.0.0.1", port))
        tcp.bind(("127.0.0.1", port))
        return True
    return False
