"""What one connection may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """What a client may take. Times are in seconds, each an absolute bound: no byte prolongs it."""

    handshake: float = 10.0
    """Of TLS, from the connection; the time for the first head begins after it."""
    head: float = 10.0
    """From the connection, or the first byte of a later request, to the end of the head."""
    body: float = 30.0
    """From the first byte of the request to the end of its body."""
    idle: float = 15.0
    """Between an answer and the next request."""
    write: float = 30.0
    """For taking enough of an answer that we need not wait to go on."""
    linger: float = 2.0
    """In which a refused client may read why."""
    headers: int = 64
    header_bytes: int = 16 * 1024
    target_bytes: int = 8 * 1024
    drain_bytes: int = 2 * 1024 * 1024
    """Body that is read though the answer is out: the 1 MiB that is allowed, and 1 MiB of rest."""
    pipelined: int = 8
    """Requests that may wait on one connection for the answer before theirs."""
