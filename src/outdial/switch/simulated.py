"""The `Switch` over the simulated carrier's socket (`carrier.py` documents the protocol).

An order leaves at once or is refused: nothing waits for a reconnect, and nothing waits behind a carrier
that does not read, because an order that leaves late is a call nobody decided on (guarantee G3).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from itertools import count
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from outdial.errors import SwitchError
from outdial.model import Ended, Inquiry, OpenCall, Originate, Room, SwitchEvent, TrunkState
from outdial.switch import Announce, OnDown, OnEvent
from outdial.switch.carrier import EVENTS, LINE_LIMIT, parse_address

_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 1.0
"""Seconds between two tries to connect: the first wait, doubled up to the longest."""

_SEND_BUFFER: Final = 1 << 20
"""Bytes asked for orders that the carrier has not read yet (the system may give less): room for a burst."""

_IDS_A_LINE: Final = 500
"""Ids in one line of an inquiry: small enough to leave at once."""

_ROOM: Final = Room("carrier", 1_000_000)
"""The carrier takes whatever it is asked."""

log = structlog.get_logger()


class _Fates(msgspec.Struct):
    ref: int
    fates: list[Inquiry]
    ended: list[Ended]


class SimulatedSwitch:
    """A connection to the simulated carrier, made again whenever it is lost."""

    def __init__(self, address: str, *, reply_timeout: float = 5.0) -> None:
        """`address` is what the carrier was given as `--socket`; `reply_timeout` in seconds.

        Raises `SettingError` when the address is not one.
        """
        self._address = address
        self._target = parse_address(address)
        self._reply_timeout = reply_timeout
        self._socket: socket.socket | None = None
        self._lost = asyncio.Event()
        self._rest = b""
        self._refs = count()
        self._replies: dict[int, asyncio.Future[_Fates]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._on_event: OnEvent
        self._on_down: OnDown

    @property
    def connected(self) -> bool:
        """True while orders can be given."""
        return self._socket is not None

    @property
    def stalls(self) -> int:
        """None: it repeats nothing by itself."""
        return 0

    def go_on(self, stalls: int) -> None:
        """Nothing waits for this."""

    async def start(self, on_event: OnEvent, on_down: OnDown, announce: Announce) -> None:
        """Connect in the background; `on_event` hears every event, `on_down` every loss of the carrier."""
        self._on_event, self._on_down = on_event, on_down
        self._keeper = asyncio.create_task(self._keep_connected())

    def room(self, vdn_id: int) -> Room:
        """As many calls as anybody wants."""
        return _ROOM

    def holds(self, vdn_id: int, device_sign: str) -> str | None:
        """Nothing: the simulated carrier needs no trunk and plays no flow."""
        return None

    def refuses(self, vdn_id: int, called: str, caller: str) -> None:
        """Every number may be called."""

    def trunks(self) -> tuple[TrunkState, ...]:
        """There are none."""
        return ()

    def originate(self, order: Originate) -> None:
        """Place one call. Raises `SwitchError` when the order certainly did not leave.

        What only a call flow needs does not go out.
        """
        line = {"attempt_id": order.attempt_id, "called": order.called, "caller": order.caller}
        self._send("originate", line)

    def confirm(self, attempt_id: UUID) -> None:
        """The carrier outlives its engines: nothing waits for this."""

    def hang_up(self, attempt_id: UUID) -> None:
        """Cancel or release the call; nothing happens to one that is not alive or while not connected."""
        with contextlib.suppress(SwitchError):
            self._send("hang_up", {"attempt_id": attempt_id})

    async def inquire(self, calls: Sequence[OpenCall]) -> list[Inquiry | Ended]:
        """What became of these calls; the carrier tells the rest of each alive call to this switch.

        One word for each, in no order. Events of up to 500 calls are heard after this returns, those of
        more perhaps before it. Raises `SwitchError` when the carrier is not connected, is lost meanwhile
        or does not answer in time.
        """
        words: list[Inquiry | Ended] = []
        ids = [call.attempt_id for call in calls]
        for start in range(0, len(ids), _IDS_A_LINE):
            reply = await self._ask(ids[start : start + _IDS_A_LINE])
            words += [*reply.fates, *reply.ended]
        return words

    async def close(self) -> None:
        """Stop; calls that are alive stay alive. `on_down` is not called."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._disconnect("the switch was closed")

    async def _ask(self, attempt_ids: list[UUID]) -> _Fates:
        ref = next(self._refs)
        self._replies[ref] = asyncio.get_running_loop().create_future()
        try:
            self._send("inquire", {"ref": ref, "attempt_ids": attempt_ids})
            async with asyncio.timeout(self._reply_timeout):
                return await self._replies[ref]
        except TimeoutError as error:
            raise self._error(f"no answer to an inquiry within {self._reply_timeout:g} s") from error
        finally:
            del self._replies[ref]

    def _error(self, reason: str) -> SwitchError:
        return SwitchError(f"carrier at {self._address}: {reason}")

    def _send(self, order: str, body: Any) -> None:
        """Send one line now. A part of a line is worth nothing to the carrier, so then the line is cut."""
        if self._socket is None:
            raise self._error("not connected")
        line = msgspec.json.encode({order: body}) + b"\n"
        try:
            sent = self._socket.send(line)
        except BlockingIOError as error:
            raise self._error("it does not read its orders") from error
        except OSError as error:
            self._lose(str(error))
            raise self._error(f"lost: {error}") from error
        if sent < len(line):
            self._lose("it does not read its orders")
            raise self._error("it does not read its orders")

    async def _keep_connected(self) -> None:
        wait = _FIRST_WAIT
        while True:
            try:
                await self._connect()
            except OSError as error:
                log.debug("carrier not reached", address=self._address, reason=str(error), again_in=wait)
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                wait = _FIRST_WAIT
                await self._lost.wait()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(self._target, str):
            family = socket.AF_UNIX
        else:
            family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            await loop.sock_connect(connection, self._target)
            if family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if connection.getsockname() == connection.getpeername():
                    raise ConnectionRefusedError("the port met itself; nobody listens")
        except BaseException:
            connection.close()
            raise
        self._lost.clear()
        self._rest = b""
        self._socket = connection
        loop.add_reader(connection, self._read, connection)
        log.info("carrier connected", address=self._address)

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(str(error))
            return
        if not data:
            self._lose("closed by the carrier")
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            for line in lines:
                self._hear(line)
            if len(self._rest) > LINE_LIMIT:
                raise ValueError(f"a line of more than {LINE_LIMIT} bytes")
        except ValueError as error:
            self._lose(f"not understood: {error}")

    def _hear(self, line: bytes) -> None:
        # call_soon: who waits for the fates goes on first, and a fault in handling one event costs no other.
        [(kind, body)] = msgspec.json.decode(line, type=dict[str, dict[str, Any]]).items()
        if kind == "fates":
            fates = msgspec.convert(body, _Fates)
            reply = self._replies.get(fates.ref)
            if reply is not None and not reply.done():
                reply.set_result(fates)
        elif kind in EVENTS:
            event: SwitchEvent = msgspec.convert(body, EVENTS[kind])
            asyncio.get_running_loop().call_soon(self._on_event, event)
        else:
            raise ValueError(f"no such event: {kind!r}")

    def _lose(self, reason: str) -> None:
        log.warning("carrier lost", address=self._address, reason=reason)
        self._disconnect(f"lost: {reason}")
        asyncio.get_running_loop().call_soon(self._on_down)

    def _disconnect(self, reason: str) -> None:
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(self._error(reason))
        self._lost.set()
