"""The HTTP server of one process: a listening socket, uvicorn's protocol in our own loop, an orderly end.

Uvicorn's own server and process supervisor are not used: they take the signals, and they know no deadlines.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
import time
from collections.abc import Coroutine, Sequence
from email.utils import formatdate
from typing import Any, TypeVar

import structlog
import uvloop
from uvicorn.config import Config

from outdial.errors import SettingError
from outdial.web.accepting import Acceptor, Network, Places
from outdial.web.edge import EdgeProtocol, EdgeState
from outdial.web.guard import App, answer_of, request_id
from outdial.web.limits import EdgeLimits

__all__ = ["EdgeLimits", "listening_socket", "run", "serve"]

BACKLOG = 2048
"""Connections that the kernel keeps until a process accepts them."""

DEFAULT_LIMITS = EdgeLimits()

_CANCELLED_WITHIN = 1.0  # seconds that a cancelled request has to let go of what it holds

log = structlog.get_logger()

T = TypeVar("T")


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens, for this process or for children that inherit it; port 0 picks one.

    Raises SettingError when the address is taken, not ours, or no address.
    """
    address = _address(host)
    if not 0 <= port <= 65535:
        raise SettingError(f"port {port}: must be 0 to 65535")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((str(address), port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingError(f"cannot listen on {host} port {port}: {_reason(error)}") from error
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError:
        raise SettingError(f"address {host!r}: must be an IP address or localhost") from None
    if "%" in host:
        raise SettingError(f"address {host}: must be without a zone")
    return address


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there"
    if error.errno == errno.EACCES:
        return "this user may not take that port"
    return error.strerror or str(error)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` in an event loop of uvloop, as `asyncio.run` would in a loop of asyncio."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def serve(
    app: App,
    sock: socket.socket,
    *,
    stop: asyncio.Event,
    grace: float,
    limits: EdgeLimits = DEFAULT_LIMITS,
    tls: ssl.SSLContext | None = None,
    proxies: Sequence[Network] = (),
) -> None:
    """Serves `app` on a socket from `listening_socket` until `stop` is set; then ends in good order.

    With `tls` over HTTPS: a connection exists for the rest of us once its handshake is over. `proxies` may
    have more connections than another address.

    It stops accepting, closes idle connections, and gives running requests `grace` seconds; what is not
    answered by then is cut off. The socket is closed. The app's lifespan is not run: whoever composes it
    starts and ends what it needs.
    """
    config, state = _config(app), EdgeState()
    state.default_headers = _date()
    acceptor = Acceptor(
        sock,
        Places.of_process(proxies),
        lambda leave: EdgeProtocol(config, state, limits, leave),
        lambda fault: answer_of(fault, request_id(), state.default_headers),
        tls=tls,
        limits=limits,
    )
    acceptor.start()
    clock = asyncio.get_running_loop().create_task(_keep_date(state))
    try:
        await stop.wait()
    finally:
        acceptor.close()
        await _drain(state, grace)
        clock.cancel()


def _config(app: App) -> Config:
    config = Config(
        app,
        http=EdgeProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        workers=1,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    config.load()
    return config


def _date() -> list[tuple[bytes, bytes]]:
    return [(b"date", formatdate(time.time(), usegmt=True).encode())]


async def _keep_date(state: EdgeState) -> None:
    while True:
        await asyncio.sleep(1 - time.time() % 1)
        state.default_headers = _date()


async def _drain(state: EdgeState, grace: float) -> None:
    state.draining = True
    for connection in list(state.connections):
        connection.shutdown()
    try:
        async with asyncio.timeout(grace):
            await _finished(state)
    except TimeoutError:
        log.warning("requests cut off", connections=len(state.connections), requests=len(state.tasks))
        await _cut(state)


async def _finished(state: EdgeState) -> None:
    while state.connections:
        state.emptied.clear()
        await state.emptied.wait()
    while state.tasks:  # a client that has gone may have left a transaction running
        await asyncio.wait(state.tasks)


async def _cut(state: EdgeState) -> None:
    for connection in list(state.connections):
        assert isinstance(connection, EdgeProtocol)
        connection.cut()
    tasks = list(state.tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CANCELLED_WITHIN)
