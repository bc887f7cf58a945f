"""One HTTP connection: uvicorn's httptools protocol with absolute deadlines, limits and one strict reading.

What is refused here never reaches the application. The answer is the envelope, then the connection ends.
`trust.md` A.5 has the cases; RFC 9112 the rules. The parser (llhttp) itself refuses what frames a body in
two ways: both or several lengths, codings it does not know, bare line feeds, folded lines, odd chunks.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from typing import Any

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from outdial.metrics import HTTP_REFUSALS
from outdial.web.guard import ABORT, Fault, answer_of, request_id
from outdial.web.limits import EdgeLimits

log = structlog.get_logger()

_HOST = re.compile(rb"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_WATCHED = frozenset({b"host", b"transfer-encoding", b"content-encoding", b"upgrade", b"expect"})
_HOP = frozenset({b"upgrade", b"connection", b"http2-settings"})
_FRAMING = 1 << 16  # bytes of chunk sizes and trailers that any message may have


# What the connection reads; plain numbers, because an Enum's members cost three times as much to look up.
_REST = 0  # between two requests
_HEAD = 1
_BODY = 2
_UPGRADE = 3  # a head that the parser takes for the start of another protocol
_DEAF = 4  # nothing more is understood: an answer goes out, then the end


class _Refused(Exception):
    """Stops the parser inside a callback; the fault stands in the protocol."""


class EdgeState(ServerState):
    """What the connections of one server share."""

    def __init__(self) -> None:
        super().__init__()
        self.draining = False
        self.emptied = asyncio.Event()


class _Outlet:
    """The transport as an answer sees it.

    Head and body, when they come in one go, are one write: a system call less for each request. Closing
    waits for a client that is still sending.
    """

    __slots__ = ("_call_soon", "_held", "_write", "close", "is_closing")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, close: Callable[[], None]
    ) -> None:
        self._write = transport.write
        self._call_soon = loop.call_soon
        self._held = b""
        self.is_closing = transport.is_closing
        self.close = close

    def write(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
            self._write(data)
        elif data.startswith(b"HTTP/1.1 "):
            self._held = data
            self._call_soon(self.flush)
        else:
            self._write(data)

    def flush(self) -> None:
        if self._held:
            data, self._held = self._held, b""
            self._write(data)


class EdgeProtocol(HttpToolsProtocol):
    """One connection. `limits` bound it; the server that drains it shares `state`; `leave` at its end."""

    def __init__(
        self, config: Config, state: EdgeState, limits: EdgeLimits, leave: Callable[[], None]
    ) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self._state = state
        self._limits = limits
        self._leave = leave
        self.made = False
        self._most_headers = limits.headers
        self._phase = _REST
        self._fault: Fault | None = None
        self._last_words: Fault | None = None  # refusal that waits for the answers before it
        self._ending = False  # the last answer is written, or there will be none
        self._draining = False
        self._running: RequestResponseCycle | None = None  # whose answer goes out now, or went out last
        self._extensions = {ABORT: self.close_unanswered}
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._write_timer: asyncio.TimerHandle | None = None
        self._host: bytes | None = None  # the last one that was judged
        self._seen: set[bytes] = set()
        self._websocket = False
        self._chunk = 0  # bytes of the data being parsed
        self._begun = 0  # messages that began in it
        self._accepted = 0.0
        self._began = 0.0  # when the first byte of the message being read came
        self._raw = 0  # bytes of the message being read, in earlier data
        self._body = 0  # bytes of its body

    # -- the connection ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the clock of the first request."""
        super().connection_made(transport)
        self.made = True
        self._outlet = _Outlet(transport, self.loop, self._part)
        if self._state.draining:
            transport.close()
        self._accepted = self.loop.time()
        self._arm(self._accepted + self._limits.head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the request that runs; those that wait behind it never begin."""
        self._disarm()
        self._end_write_timer()
        self.pipeline.clear()
        if self._running is not None:
            _abandon(self._running)
        super().connection_lost(exc)
        self._leave()
        if not self._state.connections:
            self._state.emptied.set()

    def data_received(self, data: bytes) -> None:
        """Reads what came, and afterwards bounds what has not come yet."""
        if self._phase == _DEAF:
            self._discard(len(data))
            return
        at_rest = self._phase == _REST
        self._chunk = len(data)
        self._begun = 0
        self._feed(data)
        if self._phase in (_HEAD, _BODY):
            self._await_rest(at_rest)

    def shutdown(self) -> None:
        """Lets what runs finish and closes; a connection without a request closes at once."""
        self._draining = True
        if self._running is not None and not self._running.response_complete:
            self._running.keep_alive = False
        elif self._phase != _HEAD:
            self.transport.close()

    def cut(self) -> None:
        """Ends the connection now, answered or not."""
        if self._running is not None:
            _abandon(self._running)
        self.transport.abort()

    def close_unanswered(self) -> None:
        """Ends the connection without an answer to the request that runs; earlier answers go out."""
        if self._running is not None:
            _abandon(self._running)
        self._part()

    # -- the parser's callbacks --------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A first byte."""
        if len(self.pipeline) >= self._limits.pipelined:
            self._phase = _HEAD
            self._refuse_in_parser(400, "too many requests sent ahead of their answers")
        self._disarm()
        self._phase = _HEAD
        self._begun += 1
        self._raw = self._body = 0
        self._seen.clear()
        super().on_message_begin()
        self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self.url += url
        if len(self.url) > self._limits.target_bytes:
            self._refuse_in_parser(414, f"the target is longer than {self._limits.target_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head. Trailers are dropped (RFC 9110, 6.5.1): they are not part of the head."""
        if self._phase != _HEAD:
            return
        name = name.lower()
        if name in _WATCHED:
            self._watch(name, value)
        self.headers.append((name, value))
        if len(self.headers) > self._most_headers:
            self._refuse_in_parser(431, f"more than {self._most_headers} header fields")

    def on_headers_complete(self) -> None:
        """The whole head: judge it, then start the application."""
        self._judge_head()
        if self.parser.should_upgrade():
            self._phase = _UPGRADE
            return
        super().on_headers_complete()
        self._phase = _BODY
        cycle = self.cycle
        cycle.transport = self._outlet  # type: ignore[assignment]
        if self._draining:
            cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A piece of the body; after the answer it is dropped, up to a bound."""
        self._body += len(body)
        if self.cycle.response_complete and self._body > self._limits.drain_bytes:
            self._refuse_in_parser(413, "the body is too large")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request is here: the clock stops."""
        if self._phase == _UPGRADE:
            return
        self._phase = _REST
        self._disarm()
        super().on_message_complete()
        if self.cycle.response_complete:
            self._arm(self.loop.time() + self._limits.idle)

    def on_response_complete(self) -> None:
        """An answer is out: the next request may begin, or the idle time does."""
        self.server_state.total_requests += 1
        if self._ending or self.transport.is_closing():
            return
        self.flow.resume_reading()
        answered = self._running
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last_words is not None:
            self._speak(self._last_words)
        elif self._phase == _REST:
            self._arm(self.loop.time() + self._limits.idle)
        if self._phase == _HEAD or (self._phase == _BODY and answered is not self.cycle):
            self._began = self.loop.time()  # it could not come while the answer before it was due
            self._start_clock()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    # -- the head ----------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(self._fault or Fault(400, f"not a request of HTTP/1.1: {error}"))

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Reads the request again without the offer to change the protocol, which we may ignore.

        The parser would take the body for the other protocol and lose it. Java's client offers h2c with
        every first request (RFC 9110, 7.8).
        """
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % field for field in self.headers if field[0] not in _HOP]
        named = b",".join(value for name, value in self.headers if name == b"connection").lower()
        kept = [token for token in named.replace(b" ", b"").split(b",") if token in (b"close", b"keep-alive")]
        lines += [b"connection: " + token for token in kept[:1]]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as the first one
        self._phase = _REST
        self._feed(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def _watch(self, name: bytes, value: bytes) -> None:
        """The fields that say where a request begins, ends and belongs."""
        if name == b"host":
            if name in self._seen:
                self._refuse_in_parser(400, "Host: there must be exactly one")
            if value != self._host and not _HOST.fullmatch(value):
                self._refuse_in_parser(400, "Host: must be a name or an address, with a port or without")
            self._host = value
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        elif name == b"transfer-encoding" and (name in self._seen or value.lower() != b"chunked"):
            self._refuse_in_parser(501, "Transfer-Encoding: only chunked is understood")
        elif name == b"content-encoding":
            self._refuse_in_parser(415, "Content-Encoding: send the body as it is")
        elif name == b"upgrade":
            self._websocket = b"websocket" in value.lower()
        self._seen.add(name)

    def _judge_head(self) -> None:
        """Raises _Refused for a head with a fault. The common case costs a microsecond."""
        method, url, seen = self.parser.get_method(), self.url, self._seen
        if method in (b"TRACE", b"CONNECT"):
            self._refuse_in_parser(405, f"{method.decode()} is not answered here")
        if not url.startswith(b"/") or b"#" in url or not url.isascii():
            self._refuse_in_parser(400, "the target must be a path in ASCII, without scheme and host")
        if b"host" not in seen:
            self._refuse_in_parser(400, "Host: there must be exactly one")
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._refuse_in_parser(505, "only HTTP/1.1 and HTTP/1.0 are understood")
        if version == "1.0" and b"transfer-encoding" in seen:
            self._refuse_in_parser(400, "Transfer-Encoding: HTTP/1.0 has none")
        if b"upgrade" in seen and self._websocket:
            self._refuse_in_parser(400, "Upgrade: there is no WebSocket here")
        most = self._limits.header_bytes
        if self._raw + self._chunk > most and _size(self.headers) > most:
            self._refuse_in_parser(431, f"the header fields are longer than {most} bytes")

    # -- deadlines ---------------------------------------------------------------------------------------

    def _await_rest(self, at_rest: bool) -> None:
        """A message is half here: count what came of it and see that its clock runs."""
        if not self._begun:
            self._raw += self._chunk
        elif at_rest and self._begun == 1:
            self._raw = self._chunk  # else it shares the data with others, and is not counted from there
        limits = self._limits
        if self._phase == _HEAD and self._raw > limits.header_bytes + limits.target_bytes:
            self._refuse(Fault(431, f"the head is longer than {limits.header_bytes} bytes"))
            return
        if self._raw - self._body > limits.header_bytes + limits.target_bytes + _FRAMING + 8 * self._body:
            self._refuse(Fault(400, "the chunks carry more framing than data"))
            return
        if self._begun:
            self._began = self.loop.time()
        if not self._owes_before():
            self._start_clock()

    def _owes_before(self) -> bool:
        """Whether an answer is due before that of the message being read."""
        if self._phase == _BODY:
            return bool(self.pipeline)
        return self._running is not None and not self._running.response_complete

    def _start_clock(self) -> None:
        if self._phase == _BODY:
            self._arm(self._began + self._limits.body)
        else:
            self._arm((self._accepted if self.cycle is None else self._began) + self._limits.head)

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            if due == self._due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self.loop.call_at(due, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._phase == _HEAD:
            self._refuse(Fault(408, f"the head took longer than {self._limits.head:g} s"))
        elif self._phase == _BODY:
            self._refuse(Fault(408, f"the request took longer than {self._limits.body:g} s"))
        elif self.transport.get_write_buffer_size():
            self._reset()
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """The client does not take its answer: it has `limits.write` seconds."""
        super().pause_writing()
        self._bound_writing()

    def resume_writing(self) -> None:
        """The client took enough."""
        super().resume_writing()
        self._end_write_timer()

    def _bound_writing(self) -> None:
        self._end_write_timer()
        self._write_timer = self.loop.call_later(self._limits.write, self._reset)

    def _end_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _reset(self) -> None:
        """Ends the connection and forgets what was not taken.

        After a mere close the kernel would keep it, megabytes of it, and offer it for minutes.
        """
        its = self.transport.get_extra_info("socket")
        if its is not None:
            its.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    # -- the end -----------------------------------------------------------------------------------------

    def _refuse_in_parser(self, status: int, detail: str) -> None:
        self._fault = Fault(status, detail)
        raise _Refused

    def _refuse(self, fault: Fault) -> None:
        """Answers the message being read, after the answers before it, and hears no other."""
        in_body, before = self._phase == _BODY, self._owes_before()
        self._phase = _DEAF
        self._disarm()
        if in_body and before:
            self.pipeline.popleft()  # its own, not begun
        elif in_body:
            cycle = self.cycle
            begun = cycle.response_started
            _abandon(cycle)
            if begun:  # what has an answer, or a part of one, gets no second
                self._part()
                return
        if before:
            self._last_words = fault
        else:
            self._speak(fault)

    def _speak(self, fault: Fault) -> None:
        self._last_words = None
        own_id = request_id()
        HTTP_REFUSALS.add(str(fault.status))
        log.info("request refused", status=fault.status, reason=fault.detail, request_id=own_id)
        answer = answer_of(fault, own_id, self._state.default_headers)
        self._outlet.write(answer[: answer.index(b"\r\n\r\n") + 4] if self._is_head() else answer)
        self._part()

    def _is_head(self) -> bool:
        return bool(self.parser.get_method() == b"HEAD")

    def _part(self) -> None:
        """Ends the connection after what is written; a client that is still sending may read it first.

        Closing with unread data would reset the connection, and the client might lose the answer
        (RFC 9112, 9.6).
        """
        if self.transport.is_closing():
            return
        self._outlet.flush()
        sending = self._phase != _REST
        due = self.loop.time() + self._limits.linger
        if self._phase == _BODY:
            due = max(due, self._due)  # the rest of a body that nobody wants has the body's time
        self._phase, self._ending = _DEAF, True
        self._disarm()
        if not sending:
            self._bound_writing()
            self.transport.close()
            return
        self.flow.resume_reading()
        if self.transport.can_write_eof():  # TLS knows no half-closed connection
            self.transport.write_eof()
        self._arm(due)

    def _discard(self, size: int) -> None:
        self._body += size
        if self._body > self._limits.drain_bytes:
            self.transport.close()


def _abandon(cycle: RequestResponseCycle) -> None:
    """Whoever works on the request learns that there is nobody to answer."""
    if not cycle.response_complete:
        cycle.disconnected = True
    cycle.message_event.set()


def _size(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)
