"""The bytes of a connection cut into SIP messages (RFC 3261 §18.3)."""

from __future__ import annotations

from dataclasses import dataclass

from outdial.sip.message import MAX_HEAD, BadRequest, Head, ParseError, Request, Response


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message of a stream that is at fault while its framing is not.

    `request` is what could be read of a request, enough to refuse it with 400, or None.
    """

    request: Request | None
    reason: str


class StreamParser:
    """Cuts the bytes of a TCP or TLS connection into messages, by Content-Length (RFC 3261 §18.3)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._head: Head | None = None
        self._length = 0
        self._broken: ParseError | None = None

    def feed(self, data: bytes) -> list[Request | Response | Malformed]:
        """Take what came; the messages that are complete now. CRLF between messages is a keep-alive.

        Raises `ParseError` where the stream cannot be resynchronised: the connection is to be closed. What
        came complete before the break is returned first, and the next feed, even of nothing, raises.
        """
        self._buffer += data
        complete: list[Request | Response | Malformed] = []
        try:
            while self._broken is None and (message := self._next()) is not None:
                complete.append(message)
        except ParseError as error:
            self._broken = error
        if self._broken is not None and not complete:
            raise self._broken
        return complete

    def _next(self) -> Request | Response | Malformed | None:
        if self._head is None:
            self._head = self._read_head()
        if self._head is None or len(self._buffer) < self._length:
            return None
        body = bytes(self._buffer[: self._length])
        del self._buffer[: self._length]
        head, self._head = self._head, None
        try:
            return head.message(body)
        except BadRequest as error:
            return Malformed(error.request, str(error))
        except ParseError as error:
            return Malformed(None, str(error))

    def _read_head(self) -> Head | None:
        while self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n", self._searched, MAX_HEAD + 4)
        if end < 0:
            if len(self._buffer) >= MAX_HEAD + 4:
                raise ParseError("head: no empty line within 64 KiB")
            self._searched = max(0, len(self._buffer) - 3)
            return None
        head = Head(bytes(self._buffer[:end]))
        length = head.content_length()
        if length is None:
            raise ParseError("Content-Length: missing, which a stream cannot do without")
        del self._buffer[: end + 4]
        self._searched, self._length = 0, length
        return head
