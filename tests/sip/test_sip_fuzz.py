"""Broken input: nothing but `ParseError`, what was read can be written, and the cost grows with the length.

The ordinary run takes 20,000 mutated inputs, `make test-long` ten million.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from random import Random

import pytest
from mutations import ANSWER, DESCRIPTIONS, MESSAGES, mutate

from outdial.sip import digest, sdp
from outdial.sip.dialog import reason_cause
from outdial.sip.framing import Malformed, StreamParser
from outdial.sip.message import (
    MAX_BODY,
    MAX_HEAD,
    BadRequest,
    Message,
    NameAddr,
    ParseError,
    Request,
    Response,
    Uri,
    Via,
    parse,
    parse_name_addrs,
    response_to,
)
from outdial.sip.words import Credentials

SLOWEST = 0.02
"""CPU seconds that one input may take, measured again alone before it is blamed. A mutated message takes
20 us on the developer's machine, and the worst at our caps some milliseconds; quadratic cost at the caps is
seconds."""

Parsed = Request | Response | Malformed


def read_all(message: Message) -> None:
    """Everything that the layers above read."""
    for name in ("Via", "Route", "Contact", "Allow", "Supported", "Record-Route"):
        with suppress(ParseError):
            message.all(name)
    with suppress(ParseError):
        assert all(route.isascii() and route.isprintable() for route in message.record_routes)
    with suppress(ParseError):
        contact = message.contact
        if contact is not None:
            assert NameAddr.parse(str(contact)) == contact
            assert str(contact.uri).isascii()
    reason_cause(message)
    if isinstance(message, Response):
        assert message.reason.isprintable()
    for challenge in message.all("WWW-Authenticate"):
        with suppress(ParseError):
            digest.parse_challenge(challenge)
    chosen = digest.choose(message.all("WWW-Authenticate"))
    if chosen:
        value = digest.authorization(
            chosen, Credentials("u", "p"), method="INVITE", uri="sip:x", cnonce="c", nc=1
        )
        Response(200, "OK", [("Authorization", value)]).to_bytes()


def take_message(data: bytes) -> None:
    """A datagram: whatever could be read has its mandatory headers and can be answered."""
    try:
        message = parse(data)
    except BadRequest as error:
        response_to(error.request, 400, "Bad Request", to_tag="t").to_bytes()
        return
    except ParseError:
        return
    _ = message.call_id, message.cseq
    for party in (message.from_, message.to):
        assert NameAddr.parse(str(party)) == party
    assert Via.parse(str(message.via)) == message.via
    read_all(message)
    if isinstance(message, Request):
        answer = parse(response_to(message, 200, "OK", to_tag="t").to_bytes())
        assert answer.cseq == message.cseq
        assert answer.to.tag


def take_description(data: bytes) -> None:
    """A description: what could be read is answered with as many streams."""
    try:
        media = sdp.read(data)
    except sdp.SdpError:
        return
    answer = sdp.answer(media, address="::1", port=4000, session_id=1, version=1)
    assert answer.count(b"\r\nm=") == len(media.streams)
    assert sdp.read(answer).codec == media.codec


def collect(chunks: list[bytes]) -> list[str]:
    """What a stream brings, and how it broke."""
    stream = StreamParser()
    seen: list[str] = []
    try:
        for chunk in [*chunks, b""]:
            seen += [shown(message) for message in stream.feed(chunk)]
    except ParseError as error:
        seen.append(f"broken: {error}")
    return seen


def shown(message: Parsed) -> str:
    if isinstance(message, Malformed):
        if message.request:
            response_to(message.request, 400, "Bad Request").to_bytes()
        return f"malformed: {message.reason}"
    return f"{message!r} {message.headers} {message.body!r}"


def take_stream(data: bytes) -> None:
    """A stream brings the same however it is cut."""
    draw = Random(len(data))
    cuts = sorted(int(draw.random() * (len(data) + 1)) for _ in range(3))
    chunks = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert collect(chunks) == collect([data])


def seconds(take: Callable[[bytes], None], data: bytes) -> float:
    start = time.thread_time()
    take(data)
    return time.thread_time() - start


def fuzz(count: int, seed: int) -> float:
    """`count` mutated inputs, three of five of them datagrams; the CPU seconds of the slowest."""
    draw = Random(seed)
    worst = 0.0
    for turn in range(count):
        take: Callable[[bytes], None] = take_message
        data = draw.choice(MESSAGES)
        if turn % 5 == 3:
            take, data = take_description, draw.choice(DESCRIPTIONS)
        elif turn % 5 == 4:
            take, data = take_stream, data + draw.choice(MESSAGES)
        data = mutate(data, draw)
        try:
            took = seconds(take, data)
        except Exception as error:
            error.add_note(f"seed {seed}, turn {turn}, {take.__name__}: {data!r}")
            raise
        if took > SLOWEST:
            took = min(seconds(take, data) for _ in range(3))
        worst = max(worst, took)
        assert worst < SLOWEST, f"seed {seed}, turn {turn}, {take.__name__}: {data!r}"
    return worst


class TestMutations:
    def test_the_corpus_is_valid(self) -> None:
        """Before it is broken every message and description is accepted."""
        for data in MESSAGES:
            parse(data)
            take_message(data)
            assert len(collect([data])) == 1
        for data in DESCRIPTIONS:
            sdp.read(data)

    @pytest.mark.parametrize("seed", [1, 2])
    def test_mutated_input(self, seed: int) -> None:
        """Nothing but ParseError, and each within the bound."""
        fuzz(10_000, seed)

    @pytest.mark.long
    @pytest.mark.parametrize("seed", range(100, 200))
    def test_mutated_input_in_full(self, seed: int) -> None:
        """The same with ten million inputs."""
        fuzz(100_000, seed)


PIECES = (
    " ", "\t", '"', "\\", '\\"', ",", ";", ";;", ";a", ";a=", ';a="', "<", ">", "<>", "a", "a ", "a,", "9",
    '"a"', '"a",', "@", ":", "[", "]", "%", "?", "/", "é", "=", "\r\n ", "\r\n\t \r\n ", "SIP/2.0/UDP a,",
    "Q.850;", "<sip:a>,", "Digest ", 'a="b",', ";tag=x", ';a="b"',
)  # fmt: skip
HEADERS = (
    "Via: SIP/2.0/UDP a;branch=b", "From: <sip:a>;tag=a", "To: <sip:a>", "Reason: Q.850", "Contact: <sip:a>",
    "Contact:", "Record-Route:", "Route: ", "Allow: ", "X: ", "Call-ID: a",
    'WWW-Authenticate: Digest realm="a", nonce="b", x="',
)  # fmt: skip
REFUSED = ("Via:", "From:", "To: <sip:", "To: x", "CSeq: 1", "X")
STARTS = (
    "", "sip:", "sip:a", "tel:1", "<sip:a>", '"', "SIP/2.0/UDP a", "Digest ", 'Digest realm="a", nonce=b,',
)  # fmt: skip
LINES = (
    b"m=audio 1 RTP/AVP 0\r\n", b"a=rtpmap:0 PCMU/8000\r\n", b"\n", b"a= ", b" ", b"c=IN IP4 1.1.1.1\r\n",
    b"m=audio 1 RTP/AVP" + b" 0" * 500, b"a=ptime:" + b"1" * 900 + b"\n", b"\r", b"\xff", b"v=0\n",
)  # fmt: skip


class TestCost:
    """At the caps, the worst shapes that we could think of."""

    @pytest.mark.parametrize("header", [*HEADERS, *REFUSED])
    def test_long_values(self, header: str) -> None:
        """Nearly 64 KiB of one thing repeated, in every header that is read."""
        name = header.partition(":")[0].encode()
        first, *lines = ANSWER.partition(b"\r\n\r\n")[0].split(b"\r\n")
        others = [line for line in lines if not line.startswith((name, b"Content-Length"))]
        accepted = 0
        for piece in PIECES:
            for end in ("", "x", '"', ">", "\0"):
                value = header + piece * ((MAX_HEAD - 1000) // len(piece.encode())) + end
                data = b"\r\n".join([first, value.encode(), *others, b"", b""])
                self._bounded(take_message, data)
                with suppress(ParseError):
                    accepted += bool(parse(data))
        assert accepted or header in REFUSED

    def test_long_values_alone(self) -> None:
        """Values that reach a parser without the cap of a head before it."""
        readers = (Uri.parse, NameAddr.parse, Via.parse, parse_name_addrs, digest.parse_challenge)
        for piece, start, reader in product(PIECES, STARTS, readers):
            text = start + piece * (MAX_HEAD // len(piece))

            def take(data: bytes, reader: Callable[[str], object] = reader) -> None:
                with suppress(ParseError):
                    reader(data.decode())

            self._bounded(take, text.encode())

    @pytest.mark.parametrize("piece", LINES)
    def test_long_descriptions(self, piece: bytes) -> None:
        """As much as a description may hold, and as much as a body may."""
        for room in (sdp.MAX_SDP - 600, MAX_BODY):
            self._bounded(take_description, DESCRIPTIONS[0] + piece * (room // len(piece)))
            self._bounded(take_description, b"v=0\r\n" + piece * (room // len(piece)))

    def test_byte_by_byte(self) -> None:
        """A head that comes in single bytes is not searched from its start again and again.

        One of nearly 64 KiB costs about as much as sixteen of a sixteenth.
        """

        def take(data: bytes) -> None:
            stream = StreamParser()
            assert [message for byte in data for message in stream.feed(bytes((byte,)))]

        def padded(size: int) -> bytes:
            return ANSWER.replace(b"Allow:", b"X: " + b"a" * size + b"\r\nAllow:")

        whole = min(seconds(take, padded(MAX_HEAD - 1000)) for _ in range(3))
        parts = min(seconds(take, padded((MAX_HEAD - 1000) // 16 - len(ANSWER)) * 16) for _ in range(3))
        assert whole < 2 * parts

    @staticmethod
    def _bounded(take: Callable[[bytes], None], data: bytes) -> None:
        took = seconds(take, data)
        if took > SLOWEST:
            took = min(seconds(take, data) for _ in range(3))
        assert took < SLOWEST, f"{took:.3f} s for {data[:200]!r}"
