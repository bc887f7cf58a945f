"""The simulated carrier: a scripted far end in a process of its own, with its own log.

The last two characters of the called number decide how a call ends (`script.py`).

**The log** is the independent witness of what the carrier was asked to call: one JSON line per order and
per end, appended before the order is acted on. It is the one place where full numbers stand (mode 0600).
An order for an id that was ordered before is logged as a duplicate and places no second call.

**The proof of "unseen"**: no order is acted on before its line stands in the log, the log of earlier runs
counts, one process at a time may hold it (a lock), and an inquiry is answered only after every byte that
had already reached this process on any connection was read. So an id that is not in the log was never
called. Nor will it be: an order that comes after that word, from an engine that was frozen while it gave
it, is refused. The proof is worth as much as the log: it must live and be lost together with the database
that holds the attempts, and it is not synced (a crash of the machine may lose its tail). "Cannot tell" is
said of an id that was ordered in an earlier run and has no end in the log.

**The protocol**: JSON lines. Orders: `originate`, `hang_up`, `inquire`; answers: `ringing`, `answered`,
`ended`, `fates`. Each line is one object with that one key. Events of a call go to the connection that
ordered it, and from the moment another connection inquires for it to that one (adoption).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import fcntl
import ipaddress
import os
import signal
import socket
import struct
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from outdial import logs
from outdial.errors import SettingError
from outdial.lifeline import say_ready, watch_lifeline
from outdial.model import Answered, Ended, Fate, Inquiry, Originate, Ringing, SwitchEvent
from outdial.switch.script import CANCELLED, RELEASED_BY_CALLER, SILENCE, End, Script, Times, script_of

LINE_LIMIT: Final = 1 << 20
"""Bytes in one line of the protocol; more is a fault of the peer."""

EVENTS: Final[dict[str, type[Ringing] | type[Answered] | type[Ended]]] = {
    "ringing": Ringing,
    "answered": Answered,
    "ended": Ended,
}
"""What the carrier says of a call, by the key of its line."""

_UNREAD_LIMIT: Final = 1 << 20
"""Bytes that may wait for an engine that does not read; then it is cut off."""

_PATH_LIMIT: Final = 100
"""Bytes in the path of a Unix socket that every system allows."""

log = structlog.get_logger()


# -- the log ---------------------------------------------------------------------------------------------


class CarrierLog:
    """The append-only witness: what the carrier was asked, and how each call ended."""

    def __init__(self, path: Path) -> None:
        """Open or create the log and lock it. Raises `SettingError` when another carrier holds it."""
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SettingError(f"--log {path}: cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingError(f"--log {path}: another carrier writes to it") from error
        os.fchmod(self._fd, 0o600)
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            os.write(self._fd, b"\n")  # a line cut short by a crash: its order was never acted on

    def write(self, **fields: Any) -> None:
        """Append one line; it is in the system's hands on return. Raises `OSError`."""
        line = msgspec.json.encode({"at": datetime.now(UTC), **fields}) + b"\n"
        while line:
            line = line[os.write(self._fd, line) :]

    def fates(self, wanted: Callable[[UUID], bool]) -> Iterator[tuple[UUID, Ended | None]]:
        """Read the log: each order of a `wanted` id gives None, each end the `Ended`."""
        with self.path.open("rb") as lines:
            for line in lines:
                _, found, rest = line.partition(b'"attempt":"')
                try:
                    if found and wanted(UUID(rest[:36].decode())):
                        yield from _fate(line)
                except ValueError:
                    log.warning("log line cut short", path=str(self.path))

    def close(self) -> None:
        """Give up the log and its lock."""
        os.close(self._fd)


def _fate(line: bytes) -> Iterator[tuple[UUID, Ended | None]]:
    entry = msgspec.json.decode(line)
    attempt_id = UUID(entry.pop("attempt"))
    if entry.get("event") == "ended":
        yield attempt_id, msgspec.convert({**entry, "attempt_id": str(attempt_id)}, Ended)
    elif entry.get("order") == "originate" and not {"duplicate", "refused"} & entry.keys():
        yield attempt_id, None


# -- connections -----------------------------------------------------------------------------------------


class Connection:
    """One engine's line to the carrier, over a socket that never blocks."""

    def __init__(self, carrier: Carrier, number: int, line: socket.socket) -> None:
        self.number = number
        self._carrier = carrier
        self._line = line
        self._rest = b""
        self._unsent = bytearray()
        self._loop = asyncio.get_running_loop()
        line.setblocking(False)
        self._loop.add_reader(line, self.read)

    def read_arrived(self) -> None:
        """Act on the bytes that have arrived, and on none that arrive meanwhile."""
        if self not in self._carrier.connections:
            return
        arrived = struct.unpack("i", fcntl.ioctl(self._line, termios.FIONREAD, bytes(4)))[0]
        while arrived > 0 and self in self._carrier.connections:
            arrived -= self.read(arrived)

    def read(self, most: int = 1 << 16) -> int:
        """Read once and act on it; the number of bytes."""
        try:
            data = self._line.recv(most)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self.cut()
            return 0
        *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            for line in lines:
                self._carrier.take(self, line)
            if len(self._rest) > LINE_LIMIT:
                raise ValueError(f"a line of more than {LINE_LIMIT} bytes")
        except ValueError as error:
            log.warning("engine cut off", connection=self.number, reason=str(error))
            self.cut()
        return len(data)

    def send(self, kind: str, body: Any) -> None:
        """Say one line; an engine that does not read is cut off."""
        if self not in self._carrier.connections:
            return
        self._unsent += msgspec.json.encode({kind: body}) + b"\n"
        self._flush()
        if len(self._unsent) > _UNREAD_LIMIT:
            log.warning("engine cut off", connection=self.number, reason="it does not read")
            self.cut()

    def _flush(self) -> None:
        try:
            del self._unsent[: self._line.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.cut()
            return
        if self._unsent:
            self._loop.add_writer(self._line, self._flush)
        else:
            self._loop.remove_writer(self._line)

    def cut(self) -> None:
        """Drop the line; what it had not read of its orders is never acted on."""
        if self in self._carrier.connections:
            self._carrier.connections.discard(self)
            self._loop.remove_reader(self._line)
            self._loop.remove_writer(self._line)
            self._unsent.clear()
            self._line.close()


# -- the carrier -----------------------------------------------------------------------------------------


class _HangUp(msgspec.Struct):
    attempt_id: UUID


class _Inquire(msgspec.Struct):
    ref: int
    attempt_ids: list[UUID]


@dataclass(slots=True)
class Call:
    """A call that is alive: its script, who hears of it, and the timer of its next step."""

    attempt_id: UUID
    script: Script
    connection: Connection
    answered: bool = False
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)


class Carrier:
    """The far end: it takes orders, plays their scripts and remembers how they ended.

    `remember` bounds the ended calls in memory; what is older is looked up in the log, and a second order
    for it is no longer recognised as a duplicate.
    """

    def __init__(self, listener: socket.socket, carrier_log: CarrierLog, times: Times, remember: int) -> None:
        self.connections: set[Connection] = set()
        self.stopped = asyncio.get_running_loop().create_future()
        self._listener = listener
        self._log = carrier_log
        self._times = times
        self._remember = remember
        self._loop = asyncio.get_running_loop()
        self._numbers = 0
        self._calls: dict[UUID, Call] = {}
        self._over: dict[UUID, Ended | None] = {}
        self._unseen: dict[UUID, None] = {}  # this was said of them
        self._forgot = False
        self._inquiries: set[asyncio.Task[None]] = set()
        for attempt_id, end in carrier_log.fates(lambda _: True):
            self._keep(attempt_id, end)

    def accept(self) -> None:
        """Take every engine that has connected."""
        while True:
            try:
                line, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._fail(error)
                return
            self._numbers += 1
            self.connections.add(Connection(self, self._numbers, line))

    def take(self, connection: Connection, line: bytes) -> None:
        """Act on one line. Raises `ValueError` when it is not an order."""
        [(verb, body)] = msgspec.json.decode(line, type=dict[str, dict[str, Any]]).items()
        match verb:
            case "originate":
                self._originate(connection, msgspec.convert(body, Originate))
            case "hang_up":
                self._hang_up(connection, msgspec.convert(body, _HangUp).attempt_id)
            case "inquire":
                inquiry = self._loop.create_task(self._inquire(connection, msgspec.convert(body, _Inquire)))
                self._inquiries.add(inquiry)
                inquiry.add_done_callback(self._inquiries.discard)
            case _:
                raise ValueError(f"no such order: {verb!r}; originate, hang_up and inquire exist")

    def _originate(self, connection: Connection, order: Originate) -> None:
        seen = order.attempt_id in self._calls or order.attempt_id in self._over
        entry = {"attempt": order.attempt_id, "called": order.called, "caller": order.caller}
        late = order.attempt_id in self._unseen
        mark = {"duplicate": True} if seen else {"refused": True} if late else {}
        if not self._write(order="originate", **entry, connection=connection.number, **mark) or mark:
            return
        call = Call(order.attempt_id, script_of(order.called), connection)
        self._calls[call.attempt_id] = call
        if call.script.rings:
            self._say(call, Ringing(call.attempt_id))
        rings = self._times.ring if call.script.rings else 0
        wait = self._times.ring_limit if call.script.waits else rings
        call.timer = self._loop.call_later(wait, self._ring_over, call)

    def _ring_over(self, call: Call) -> None:
        if call.script.refusal is None:
            self._answer(call)
        else:
            self._end(call, call.script.refusal)

    def _answer(self, call: Call) -> None:
        call.answered = True
        self._say(call, Answered(call.attempt_id))
        lasts = self._times.drop if call.script.drops else self._times.talk
        call.timer = self._loop.call_later(lasts, self._end, call, call.script.release)

    def _hang_up(self, connection: Connection, attempt_id: UUID) -> None:
        call = self._calls.get(attempt_id)
        if not self._write(order="hang_up", attempt=attempt_id, connection=connection.number) or call is None:
            return
        if call.timer is not None:
            call.timer.cancel()
        if call.answered:
            self._end(call, RELEASED_BY_CALLER)
        elif call.script.crosses:
            self._answer(call)
        else:
            self._end(call, SILENCE if call.script.refusal is SILENCE else CANCELLED)

    def _end(self, call: Call, end: End) -> None:
        ended = end(call.attempt_id)
        facts = msgspec.to_builtins(ended)
        del facts["record"]  # a switch's own word; a carrier has none
        if not self._write(event="ended", attempt=facts.pop("attempt_id"), **facts):
            return
        del self._calls[call.attempt_id]
        self._keep(call.attempt_id, ended)
        if end is not SILENCE:
            self._say(call, ended)

    def _say(self, call: Call, event: SwitchEvent) -> None:
        kind = next(name for name, event_type in EVENTS.items() if event_type is type(event))
        call.connection.send(kind, event)

    def _keep(self, attempt_id: UUID, end: Ended | None) -> None:
        self._over[attempt_id] = end
        while len(self._over) > self._remember:
            del self._over[next(iter(self._over))]
            self._forgot = True

    def _write(self, **fields: Any) -> bool:
        """Log, or stop the carrier: one that cannot be witnessed places no call."""
        if self.stopped.done():
            return False
        try:
            self._log.write(**fields)
        except OSError as error:
            self._fail(error)
            return False
        return True

    def _fail(self, error: OSError) -> None:
        self._loop.remove_reader(self._listener)
        if not self.stopped.done():
            self.stopped.set_exception(error)

    async def _inquire(self, connection: Connection, inquiry: _Inquire) -> None:
        self._read_all()
        older: dict[UUID, Ended | None] = {}
        if self._forgot:
            wanted = {one for one in inquiry.attempt_ids if one not in self._calls and one not in self._over}
            older = await asyncio.to_thread(lambda: dict(self._log.fates(wanted.__contains__)))
        words = [self._fate(connection, one, older) for one in inquiry.attempt_ids]
        fates = [word for word in words if isinstance(word, Inquiry)]
        ended = [word for word in words if isinstance(word, Ended)]
        connection.send("fates", {"ref": inquiry.ref, "fates": fates, "ended": ended})

    def _read_all(self) -> None:
        """Act on all that has reached this process on any connection: an order may be among it."""
        self.accept()  # whatever order the loop takes things in
        for connection in list(self.connections):
            connection.read_arrived()

    def _fate(
        self, connection: Connection, attempt_id: UUID, older: dict[UUID, Ended | None]
    ) -> Inquiry | Ended:
        if call := self._calls.get(attempt_id):
            call.connection = connection
            return Inquiry(attempt_id, Fate.ALIVE, call.answered)
        known = self._over if attempt_id in self._over else older
        if attempt_id not in known:
            self._unseen[attempt_id] = None
            if len(self._unseen) > self._remember:
                del self._unseen[next(iter(self._unseen))]
            return Inquiry(attempt_id, Fate.UNSEEN)
        return known[attempt_id] or Inquiry(attempt_id, Fate.CANNOT_TELL)


# -- the process -----------------------------------------------------------------------------------------


def parse_address(text: str) -> str | tuple[str, int]:
    """A Unix socket's path, or host and port of a loopback address (`127.0.0.1:0`, `[::1]:7000`).

    Raises `SettingError` for a path that is too long and for an address off this machine.
    """
    if "/" in text:
        if len(os.fsencode(text)) >= _PATH_LIMIT:
            raise SettingError(f"carrier socket {text}: the path must be shorter than {_PATH_LIMIT} bytes")
        return text
    host, _, port = text.rpartition(":")
    try:
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        loopback = False
    if not loopback or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SettingError(
            f"carrier socket {text}: must be a path with a '/' or a loopback address like 127.0.0.1:0"
        )
    return host.strip("[]"), int(port)


def _listen(address: str | tuple[str, int]) -> socket.socket:
    """A listening socket that does not block. Raises `OSError`."""
    if isinstance(address, str):
        listener = socket.socket(socket.AF_UNIX)
        if Path(address).is_socket() and listener.connect_ex(address) == errno.ECONNREFUSED:
            os.unlink(address)  # left behind by a killed carrier
        listener.close()
        listener = socket.socket(socket.AF_UNIX)
    else:
        listener = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)
    listener.bind(address)
    if isinstance(address, str):
        os.chmod(address, 0o600)
    return listener


async def _serve(listener: socket.socket, options: argparse.Namespace, carrier_log: CarrierLog) -> None:
    times = Times(options.ring, options.talk, options.drop, options.ring_limit)
    carrier = Carrier(listener, carrier_log, times, options.remember)

    def stop() -> None:
        if not carrier.stopped.done():
            carrier.stopped.set_result(None)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    carrier_log.write(event="listening", address=_name(listener.getsockname()), pid=os.getpid())
    listener.listen()
    loop.add_reader(listener, carrier.accept)
    say_ready()
    await carrier.stopped


def _name(bound: str | tuple[Any, ...]) -> str:
    if isinstance(bound, str):
        return bound
    host, port, *_ = bound
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError("must be 0 to 86400 seconds")
    return value


def _options(argv: Sequence[str]) -> argparse.Namespace:
    times = Times()
    parser = argparse.ArgumentParser(prog="outdial-carrier", description="The simulated carrier.")
    parser.add_argument("--socket", required=True, help="a path, or a loopback address like 127.0.0.1:0")
    parser.add_argument("--log", required=True, type=Path, help="the file of orders and ends; holds numbers")
    parser.add_argument("--ring", type=_seconds, default=times.ring, help="seconds until an answer")
    parser.add_argument("--talk", type=_seconds, default=times.talk, help="seconds until the callee hangs up")
    parser.add_argument("--drop", type=_seconds, default=times.drop, help="seconds until an 08 call drops")
    parser.add_argument("--ring-limit", type=_seconds, default=times.ring_limit, help="seconds of ringing")
    parser.add_argument("--remember", type=int, default=200_000, help="ended calls kept in memory")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run the carrier until SIGTERM, SIGINT or the end of its supervisor; returns the exit code.

    2: an option is wrong, 1: the socket or the log failed.
    """
    options = _options(argv)
    watch_lifeline()
    logs.configure("info", "carrier")
    try:
        address = parse_address(options.socket)
        with contextlib.closing(CarrierLog(options.log)) as carrier_log:
            with contextlib.closing(_listen(address)) as listener:
                asyncio.run(_serve(listener, options, carrier_log))
            if isinstance(address, str):
                os.unlink(address)
    except SettingError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"carrier at {options.socket}, log {options.log}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
