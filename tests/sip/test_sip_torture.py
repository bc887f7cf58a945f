"""The torture messages of RFC 4475, when the shared corpora lie beside the checkout.

Each is parsed or refused as `classification.tsv` says: as a datagram, and as a stream that is cut at every
byte. Three are well formed and classified "Parse", yet RFC 4475 has an element answer them with 400: those
are refused as `BadRequest`, whose request is what such an answer is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from outdial.sip.framing import Malformed, StreamParser
from outdial.sip.message import (
    BadRequest,
    ParseError,
    Request,
    Response,
    parse,
    response_to,
)

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
FOLDER = SHARED / "corpora" / "sip-torture"
MESSAGES = 50

ANSWERED_400 = {
    "TC_INSUF_I.dat": "From: missing",  # §3.3.1
    "TC_MULTI01_I.dat": "more than once",  # §3.3.8
    "TC_MCL01_I.dat": "Content-Length",  # §3.3.9
}
NO_END = {"TC_CLERR_I.dat", "TC_BADDN_I.dat"}
"""In a stream they are never complete: less body than Content-Length says, or no empty line."""

BREAKING = {"TC_NCL_I.dat", "TC_MCL01_I.dat", "TC_INV2543_I.dat"}
"""They break a stream: Content-Length is negative, there are two, or there is none."""

TWO = "TC_DBLREQ.dat"
"""Two messages, of which a datagram counts the first alone. The second has more body than it says, and
what is left over breaks a stream."""

pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="there is no ../shared beside this checkout")


@pytest.fixture(scope="module")
def corpus() -> dict[str, tuple[bytes, str]]:
    """Every message with its class. Counted first: an incomplete corpus is a failure."""
    rows = [line.split("\t") for line in (FOLDER / "classification.tsv").read_text().splitlines()]
    assert len(rows) == len(list(FOLDER.glob("*.dat"))) == MESSAGES
    assert {row[2] for row in rows} == {"Parse", "Reject"}
    return {name: ((FOLDER / name).read_bytes(), verdict) for name, _, verdict in rows}


def streamed(chunks: Sequence[bytes]) -> tuple[list[Request | Response | Malformed], str]:
    """What a stream brings, and why it broke."""
    stream = StreamParser()
    seen: list[Request | Response | Malformed] = []
    try:
        for chunk in (*chunks, b""):
            seen += stream.feed(chunk)
    except ParseError as error:
        return seen, str(error)
    return seen, ""


def same(one: object, other: object) -> bool:
    """Whether two streams brought the same."""
    if isinstance(one, Malformed) and isinstance(other, Malformed):
        return one.reason == other.reason and (one.request is None) == (other.request is None)
    assert isinstance(one, Request | Response)
    assert isinstance(other, Request | Response)
    return (repr(one), one.headers, one.body) == (repr(other), other.headers, other.body)


class TestDatagrams:
    def test_parsed_or_refused_as_classified(self, corpus: dict[str, tuple[bytes, str]]) -> None:
        for name, (data, verdict) in corpus.items():
            if verdict == "Reject" or name in ANSWERED_400:
                with pytest.raises(ParseError) as caught:
                    parse(data)
                if name in ANSWERED_400:
                    assert ANSWERED_400[name] in str(caught.value)
                    assert isinstance(caught.value, BadRequest)
            else:
                assert parse(data), name

    def test_every_request_at_fault_can_be_answered(self, corpus: dict[str, tuple[bytes, str]]) -> None:
        """Where the start line is right, `BadRequest` has what a 400 is made of."""
        answered = 0
        for name, (data, _) in corpus.items():
            try:
                parse(data)
            except BadRequest as error:
                response = response_to(error.request, 400, "Bad Request", to_tag="t")
                assert b"SIP/2.0 400 Bad Request\r\n" in response.to_bytes()
                assert response.get("Via") or name == "TC_TEST_I.dat"
                answered += 1
            except ParseError:
                continue
        assert answered == 13

    def test_values_are_read(self, corpus: dict[str, tuple[bytes, str]]) -> None:
        """§3.1.1: what each message is about."""
        short = parse(corpus["TC_WSINV.dat"][0])
        assert short.from_.display == 'J Rosenberg \\"'
        assert short.from_.tag == "98asjd8"
        assert short.to.params == {"tag": "1918181833n"}
        assert short.cseq == (9, "INVITE")
        assert (short.via.transport, short.via.host, short.via.branch) == ("UDP", "192.0.2.2", "390skdjuw")
        assert [via.split("/")[2].split()[0] for via in short.all("v")] == ["UDP", "TCP", "UDP"]
        assert short.get("NewFangledHeader") == "newfangled value continued newfangled value"
        assert short.get("subject") == ""
        assert short.contact
        assert short.contact.params == {"newparam": "newvalue", "secondparam": None, "q": "0.33"}

        odd = parse(corpus["TC_INTMETH.dat"][0])
        assert odd.to.display == "BEL:\x07 NUL:\x00 DEL:\x7f"
        assert odd.to.uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
        assert odd.from_.tag == "_token~1'+`*%!-."
        assert odd.cseq == (139122385, "!interesting-Method0123456789_*+`.%indeed'~")

        assert len(parse(corpus["TC_LONGREQ_V.dat"][0]).all("Via")) == 34
        assert parse(corpus["TC_LWSDISP_V.dat"][0]).from_.display == "caller"
        semicolon = parse(corpus["TC_SEMIURI_V.dat"][0])
        assert isinstance(semicolon, Request)
        assert semicolon.uri == "sip:user;par=u%40example.net@example.com"
        bare = parse(corpus["TC_CPARAM01_V.dat"][0]).contact
        assert bare
        assert (bare.params, bare.uri.params) == ({"unknownparam": None}, {})
        inside = parse(corpus["TC_CPARAM02_V.dat"][0]).contact
        assert inside
        assert (inside.params, inside.uri.params) == ({}, {"unknownparam": None})
        assert len(parse(corpus["TC_MPART01.dat"][0]).body) == 553

        first = parse(corpus[TWO][0])
        assert isinstance(first, Request)
        assert (first.method, first.body) == ("REGISTER", b"")
        reason = parse(corpus["TC_UNREASON_V.dat"][0])
        assert isinstance(reason, Response)
        assert reason.reason.startswith("= 2**3 * 5**2 но сто")
        none = parse(corpus["TC_NOREASON_V.dat"][0])
        assert isinstance(none, Response)
        assert (none.status, none.reason) == (100, "")


class TestStreams:
    """RFC 3261 §18.3."""

    def test_as_classified(self, corpus: dict[str, tuple[bytes, str]]) -> None:
        """Alone on a stream; `Malformed` is refused, and so is what breaks or never ends."""
        for name, (data, verdict) in corpus.items():
            seen, broken = streamed([data])
            assert bool(broken) == (name in BREAKING | {TWO}), name
            assert len(seen) == (0 if name in NO_END | BREAKING else 2 if name == TWO else 1), name
            if seen:
                refused = isinstance(seen[0], Malformed)
                assert refused == (verdict == "Reject" or name in ANSWERED_400), name

    def test_cut_at_every_byte(self, corpus: dict[str, tuple[bytes, str]]) -> None:
        """In two parts, cut at each byte, and in single bytes: always the same."""
        for name, (data, _) in corpus.items():
            whole, why = streamed([data])
            cuts = [[data[:at], data[at:]] for at in range(1, len(data))]
            for chunks in [*cuts, [data[at : at + 1] for at in range(len(data))]]:
                seen, broken = streamed(chunks)
                assert broken == why, name
                assert len(seen) == len(whole), name
                assert all(same(one, other) for one, other in zip(seen, whole, strict=True)), name

    def test_one_after_the_other(self, corpus: dict[str, tuple[bytes, str]]) -> None:
        """All that end, with keep-alives between them, on one connection: a refused one costs no other."""
        parts = [data for name, (data, _) in corpus.items() if name not in NO_END | BREAKING | {TWO}]
        seen, broken = streamed([b"\r\n\r\n".join(parts)])
        assert not broken
        assert len(seen) == len(parts)
        assert sum(isinstance(message, Malformed) for message in seen) == 19
