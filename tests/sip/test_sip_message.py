"""Messages: what is written reads the same, what is refused, and the caps (RFC 3261)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import ANSWER, MESSAGES

from outdial.sip.dialog import reason_cause
from outdial.sip.framing import Malformed, StreamParser
from outdial.sip.message import (
    MAX_BODY,
    MAX_HEAD,
    MAX_HEADERS,
    BadRequest,
    NameAddr,
    ParseError,
    Request,
    Response,
    Uri,
    Via,
    Written,
    canonical,
    parse,
    parse_name_addrs,
    response_to,
)

BYE = MESSAGES[1]
VIA = ("Via", "SIP/2.0/UDP a;branch=z9hG4bK1")
MANDATORY = [VIA, ("From", "<sip:a@b>;tag=1"), ("To", "<sip:c@d>"), ("Call-ID", "x"), ("CSeq", "1 BYE")]

TOKEN = st.text("abcXYZ019-.!%*_+`'~", min_size=1, max_size=12)
NAME = TOKEN.map(str.lower)
HOST = st.from_regex(r"[a-z0-9]([a-z0-9.\-]{0,12})", fullmatch=True) | st.sampled_from(["::1", "2001:db8::9"])
PORT = st.none() | st.integers(1, 65535)
VALUE = st.none() | st.text("abcXYZ019-.!%*_+`'~:/[]@", min_size=1, max_size=12) | st.just('"a;b,\\"<c>"')
PARAMS = st.dictionaries(NAME.filter(lambda name: name != "tag"), VALUE, max_size=4)
URI_PARAMS = st.dictionaries(NAME, st.none() | TOKEN, max_size=4)
USER = st.none() | st.text("abcXYZ019-_.!~*'()&=+$,;?/%:", min_size=1, max_size=12)
URIS = st.builds(
    Uri,
    st.sampled_from(["sip", "sips"]),
    USER,
    HOST,
    PORT,
    URI_PARAMS,
    st.sampled_from(["", "subject=x&to=y"]),
) | st.builds(
    Uri, st.just("tel"), st.from_regex(r"\+?[0-9]{1,15}", fullmatch=True), st.just(""), st.none(), URI_PARAMS
)
TEXT = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=40)
ADDRESSES = st.builds(NameAddr, URIS, st.none() | TEXT, PARAMS)
VIAS = st.builds(Via, TOKEN.map(str.upper), HOST, PORT, PARAMS)
OTHERS = st.lists(
    st.tuples(
        st.sampled_from(["Subject", "X-Account", "P-Asserted-Identity", "User-Agent", "Warning"]),
        TEXT.map(lambda text: text.strip(" \t")),
    ),
    max_size=5,
)


@st.composite
def heads(draw: st.DrawFn, method: str) -> list[tuple[str, str]]:
    """Headers that a message needs, and some more."""
    tag = draw(TOKEN)
    return [
        *(("Via", str(via)) for via in draw(st.lists(VIAS, min_size=1, max_size=3))),
        ("From", f"{draw(ADDRESSES)};tag={tag}"),
        ("To", str(draw(ADDRESSES))),
        ("Call-ID", draw(TOKEN)),
        ("CSeq", f"{draw(st.integers(0, 2**31 - 1))} {method}"),
        *draw(OTHERS),
    ]


def with_line(line: str) -> bytes:
    """The BYE of the corpus with one more header, at the end."""
    return BYE.replace(b"Content-Length: 0\r\n", line.encode() + b"\r\nContent-Length: 0\r\n")


class TestRoundTrip:
    """Written and read again: the same."""

    @settings(deadline=None)
    @given(st.data(), TOKEN, URIS, st.binary(max_size=300))
    def test_request(self, data: st.DataObject, method: str, uri: Uri, body: bytes) -> None:
        uri.headers = ""
        written = Request(method, str(uri), data.draw(heads(method)), body)
        read = parse(written.to_bytes())
        assert isinstance(read, Request)
        assert (read.method, Uri.parse(read.uri), read.body) == (method, uri, body)
        assert [pair for pair in read.headers if pair[0] != "Content-Length"] == written.headers
        assert read.get("Content-Length") == str(len(body))

    @settings(deadline=None)
    @given(heads("INVITE"), st.integers(100, 699), TEXT.filter(str.isprintable), st.binary(max_size=300))
    def test_response(self, headers: list[tuple[str, str]], status: int, reason: str, body: bytes) -> None:
        read = parse(Response(status, reason, headers, body).to_bytes())
        assert isinstance(read, Response)
        assert (read.status, read.reason, read.body) == (status, reason, body)
        assert read.headers[:-1] == headers

    @settings(deadline=None)
    @given(
        st.lists(
            st.builds(Request, st.just("BYE"), st.just("sip:a"), heads("BYE"), st.binary(max_size=50)),
            max_size=4,
        ),
        st.data(),
    )
    def test_stream(self, messages: list[Request], data: st.DataObject) -> None:
        """Messages one after the other, cut anywhere."""
        whole = b"".join(message.to_bytes() for message in messages)
        cut = data.draw(st.integers(0, len(whole)))
        stream = StreamParser()
        seen = stream.feed(whole[:cut]) + stream.feed(whole[cut:])
        assert [message.body for message in seen if isinstance(message, Request)] == [
            m.body for m in messages
        ]

    @settings(deadline=None)
    @given(ADDRESSES)
    def test_address(self, address: NameAddr) -> None:
        assert NameAddr.parse(str(address)) == address

    @settings(deadline=None)
    @given(st.lists(ADDRESSES, max_size=4))
    def test_addresses(self, addresses: list[NameAddr]) -> None:
        assert parse_name_addrs(" , ".join(map(str, addresses))) == addresses

    @settings(deadline=None)
    @given(VIAS)
    def test_via(self, via: Via) -> None:
        assert Via.parse(str(via)) == via


class TestUri:
    """RFC 3261 §19.1, RFC 3966."""

    def test_parts(self) -> None:
        uri = Uri.parse("SIPS:bob;x:secret@[2001:db8::1]:5061;Transport=tcp;lr?subject=a%20b")
        assert uri == Uri(
            "sips", "bob;x:secret", "2001:db8::1", 5061, {"transport": "tcp", "lr": None}, "subject=a%20b"
        )
        assert str(uri) == "sips:bob;x:secret@[2001:db8::1]:5061;transport=tcp;lr?subject=a%20b"

    def test_tel(self) -> None:
        uri = Uri.parse("tel:7042;phone-context=example.com")
        assert (uri.user, uri.host, uri.params) == ("7042", "", {"phone-context": "example.com"})

    def test_other_schemes_are_opaque(self) -> None:
        assert str(Uri.parse("http://a.example/?b@c")) == "http://a.example/?b@c"

    @pytest.mark.parametrize(
        "text",
        ["", "sip:", "sip", "sip:@a", "sip:a b", "sip: a", "sip:a:0", "sip:a:65536", "sip:a:",
         "sip:a:5x", "sip:[::1",
         "sip:a@b@c@", "sip:-", "sip:a;=x", "sip:a;;b", "sip:a<b", 'sip:a"b', "sip:ä@b", "sip:a\r\nb",
         "sip:a\0", "1:x", "tel:ä"],
    )  # fmt: skip
    def test_refused(self, text: str) -> None:
        with pytest.raises(ParseError):
            Uri.parse(text)


class TestAddresses:
    """RFC 3261 §20.10, §25.1."""

    def test_quotes_and_brackets_hold_commas(self) -> None:
        first, second = parse_name_addrs('"Bell, \\"A\\" <x>" <sip:a;x=1?y=a>;p="q,r" , sip:b;tag=2')
        assert first.display == 'Bell, "A" <x>'
        assert (first.uri.params, first.params) == ({"x": "1"}, {"p": '"q,r"'})
        assert (second.uri.params, second.tag) == ({}, "2")

    @pytest.mark.parametrize(
        "text",
        ['"a <sip:b>', "Bell, A <sip:b>", "<sip:b", "sip:b>", "< sip:b >", "<sip:b>>", "<sip:b> x",
         "<sip:b>;;x=1",
         "<sip:b>;", "sip:b?x=y", "sip:b,sip:c", '<sip:b>;tag="x"', "<sip:b>;tag", "<sip:b>;tag=",
         '"a"x<sip:b>'],
    )  # fmt: skip
    def test_refused(self, text: str) -> None:
        with pytest.raises(ParseError):
            NameAddr.parse(text)
        with pytest.raises(ParseError):
            parse(BYE.replace(b"<sip:me@127.0.0.1>;tag=1", text.encode()))

    @pytest.mark.parametrize("text", ["<sip:b>;x=1;X=2", "<sip:b> ; x=1 ; X=2", "<sip:b;x=1;X=2>;x=1"])
    def test_the_first_counts(self, text: str) -> None:
        """Of a parameter that comes twice."""
        address = NameAddr.parse(text)
        assert address.params == {"x": "1"}
        assert address.uri.params in ({}, {"x": "1"})

    def test_an_open_quote_in_a_list(self) -> None:
        with pytest.raises(ParseError):
            parse_name_addrs('<sip:a>, "b <sip:c>')


class TestVia:
    def test_parts(self) -> None:
        via = Via.parse("sip / 2.0 / tls  [::1] : 5061 ;branch = z9hG4bK1; received=2001:db8::1 ;rport")
        assert via == Via(
            "TLS", "::1", 5061, {"branch": "z9hG4bK1", "received": "2001:db8::1", "rport": None}
        )
        assert via.branch == "z9hG4bK1"

    @pytest.mark.parametrize(
        "text",
        ["", "SIP/3.0/UDP a", "SIP/2.0/UDP", "SIP/2.0/UDP a:0", "SIP/2.0/UDP a;;b",
        "SIP/2.0/UDP a b"],
    )  # fmt: skip
    def test_refused(self, text: str) -> None:
        with pytest.raises(ParseError):
            Via.parse(text)


class TestHeaders:
    def test_one_spelling(self) -> None:
        """§7.3.1, §7.3.3: names are case-insensitive, compact forms the same as long ones."""
        names = ("i", "CALL-ID", "cseq", "x-my-Thing", "www-authenticate", "L")
        assert [canonical(name) for name in names] == [
            "Call-ID", "Call-ID", "CSeq", "X-My-Thing", "WWW-Authenticate", "Content-Length",
        ]  # fmt: skip
        assert parse(MESSAGES[2]).get("I") == "x@y"
        assert Response(200, "OK", [("cAll-Id", "1")]).call_id == "1"

    def test_lists_are_split_where_they_are_lists(self) -> None:
        read = parse(with_line("Allow: INVITE,, ACK ,\r\nSubject: a, b\r\nm: <sip:a,b@c>,\r\n <sip:c>"))
        assert read.all("allow") == ["INVITE", "ACK"]
        assert read.all("Subject") == ["a, b"]
        assert read.all("Contact") == ["<sip:a,b@c>", "<sip:c>"]
        assert len(read.all("Via")) == 2
        assert read.all("Route") == []

    def test_routes(self) -> None:
        """Their order is kept, their parameters too; a display name is left out."""
        assert parse(ANSWER).record_routes == ["<sip:p1;lr>", "<sip:p2;lr>"]
        with pytest.raises(ParseError):
            _ = parse(with_line('Record-Route: <sip:a>;x="\x00"')).record_routes
        with pytest.raises(ParseError):
            _ = parse(with_line('Record-Route: <sip:a>;x="é"')).record_routes

    def test_contact(self) -> None:
        assert parse(BYE).contact is None
        assert parse(MESSAGES[4]).contact is None  # "*"
        contact = parse(ANSWER).contact
        assert contact
        assert (contact.uri.host, contact.uri.port, contact.uri.params) == (
            "127.0.0.1",
            5070,
            {"transport": "UDP"},
        )

    def test_a_reason_that_can_be_shown(self) -> None:
        """What no store takes is replaced: NUL, and bytes that are not UTF-8."""
        read = parse(ANSWER.replace(b"200 OK", b"200 O\0K \xff \xc3\xa9"))
        assert isinstance(read, Response)
        assert read.reason == "O\ufffdK \ufffd é"

    def test_bytes_that_are_not_utf8_come_back_as_they_were(self) -> None:
        """In a display name of Via, From or To they are copied to the answer."""
        request = parse(BYE.replace(b"<sip:you", b'"\xfc" <sip:you'))
        assert isinstance(request, Request)
        assert b'From: "\xfc" <sip:you@127.0.0.1>;tag=2\r\n' in response_to(request, 200, "OK").to_bytes()


class TestRefused:
    """What `parse` does not let through."""

    @pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq"])
    def test_mandatory(self, name: str) -> None:
        """Each missing, and each empty (§8.1.1)."""
        headers = [pair for pair in MANDATORY if pair[0] != name]
        for rest in (headers, [*headers, (name, "")]):
            with pytest.raises(BadRequest, match=f"{name}: missing or empty") as caught:
                parse(Request("BYE", "sip:a", rest).to_bytes())
            assert caught.value.request.method == "BYE"
        assert parse(Request("BYE", "sip:a", MANDATORY).to_bytes())

    @pytest.mark.parametrize("name", ["From", "To", "Call-ID", "CSeq"])
    def test_twice(self, name: str) -> None:
        """RFC 4475 §3.3.8."""
        headers = [*MANDATORY, *(pair for pair in MANDATORY if pair[0] == name)]
        with pytest.raises(BadRequest, match=f"{name}: more than once"):
            parse(Request("BYE", "sip:a", headers).to_bytes())

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"CSeq: 2 BYE", b"CSeq: 2147483648 BYE"),  # §8.1.1.5
            (b"CSeq: 2 BYE", b"CSeq: 2 ACK"),
            (b"CSeq: 2 BYE", b"CSeq: -2 BYE"),
            (b"CSeq: 2 BYE", "CSeq: ٢ BYE".encode()),
            (b"CSeq: 2 BYE", b"CSeq: 2"),
            (b"GMT", b"EST"),
            (b"Max-Forwards: 70", b"no header"),
            (b"Max-Forwards: 70", b": 70"),
            (b"Max-Forwards: 70", b"Max Forwards: 70"),
            (b"Max-Forwards: 70\r\n", b"Max-Forwards: 70\n"),
            (b"Max-Forwards: 70", b"Max-Forwards: 7\r0"),
            (b"Max-Forwards: 70", b"Contact: sip:a?b=c"),
            (b"Content-Length: 0", b"Content-Length: 1"),
            (b"Content-Length: 0", b"Content-Length: +0"),
            (b"Content-Length: 0", b"Content-Length: 0\r\nl: 1"),
            (b"z9hG4bKq,", b"z9hG4bKq;;,"),
        ],
    )
    def test_a_request_at_fault(self, old: bytes, new: bytes) -> None:
        """It can still be answered."""
        assert BYE.count(old) == 1
        with pytest.raises(BadRequest) as caught:
            parse(BYE.replace(old, new))
        response = response_to(caught.value.request, 400, "Bad Request", to_tag="t").to_bytes()
        assert b"Call-ID: x@y\r\n" in response

    @pytest.mark.parametrize(
        "line",
        ["BYE sip:a SIP/3.0", "BYE sip:a", "BYE  sip:a SIP/2.0", "BYE <sip:a> SIP/2.0", "B/E sip:a SIP/2.0",
         " BYE sip:a SIP/2.0", "SIP/2.0 99 x", "SIP/2.0 700 x", "SIP/2.0 2000 x", "SIP/2.0 20",
         "SIP/2.0 200OK", "",
         "BYE sip:a?x=y SIP/2.0", "GET / HTTP/1.1"],
    )  # fmt: skip
    def test_start_line(self, line: str) -> None:
        with pytest.raises(ParseError) as caught:
            parse(BYE.replace(b"BYE sip:me@127.0.0.1:5097 SIP/2.0", line.encode(), 1))
        assert not isinstance(caught.value, BadRequest)

    def test_caps(self) -> None:
        """64 KiB of head, 200 headers, 256 KiB of body: that much passes, one more does not."""
        head = BYE.index(b"\r\n\r\n")
        fill = "X: " + "a" * (MAX_HEAD - head - len("X: \r\n"))
        assert parse(with_line(fill))
        with pytest.raises(ParseError, match="64 KiB"):
            parse(with_line(fill + "a"))
        lines = "\r\n".join(["X: a"] * (MAX_HEADERS - BYE[:head].count(b"\r\n")))
        assert len(parse(with_line(lines)).headers) == MAX_HEADERS
        with pytest.raises(ParseError, match="200 headers"):
            parse(with_line(lines + "\r\nX: a"))
        for line in (b"Content-Length: %d\r\n", b""):
            body = bytes(MAX_BODY)
            assert parse(BYE.replace(b"Content-Length: 0\r\n", line and line % len(body)) + body).body == body
            body += b"x"
            with pytest.raises(ParseError, match="256 KiB"):
                parse(BYE.replace(b"Content-Length: 0\r\n", line and line % len(body)) + body)


class TestWriting:
    @pytest.mark.parametrize("bad", ["\r", "\n", "\r\nX: y", "\0"])
    def test_no_header_is_injected(self, bad: str) -> None:
        """CR, LF and NUL in a value, a name, a reason, a method or a URI: nothing is written."""
        for message in (
            Request("BYE", "sip:a", [*MANDATORY, ("X", f"a{bad}b")]),
            Request("BYE", "sip:a", [*MANDATORY, ("X", f"a{bad}")]),
            Request("BYE", "sip:a", [*MANDATORY, (f"X{bad}", "a")]),
            Request(f"BYE{bad}", "sip:a", MANDATORY),
            Request("BYE", f"sip:a{bad}", MANDATORY),
            Response(200, f"OK{bad}", MANDATORY),
        ):
            with pytest.raises(ValueError):
                message.to_bytes()

    @pytest.mark.parametrize("uri", ["sip:a b", "", "sip:é"])
    def test_a_uri_is_one_word(self, uri: str) -> None:
        with pytest.raises(ValueError):
            Request("BYE", uri, MANDATORY).to_bytes()

    def test_content_length_is_ours(self) -> None:
        data = Response(200, "OK", [*MANDATORY, ("l", "99")], b"four").to_bytes()
        assert data.count(b"Content-Length") == 1
        assert data.endswith(b"Content-Length: 4\r\n\r\nfour")


class TestResponseTo:
    """RFC 3261 §8.2.6."""

    def test_copies(self) -> None:
        request = parse(BYE.replace(b"<sip:me@127.0.0.1>;tag=1", b"sip:me@127.0.0.1"))
        assert isinstance(request, Request)
        response = response_to(request, 481, "Gone", to_tag="t", headers=[("Server", "x")], body=b"b")
        assert response.all("Via") == request.all("Via")
        assert response.headers[1:4] == [
            ("From", "<sip:you@127.0.0.1>;tag=2"), ("To", "sip:me@127.0.0.1;tag=t"), ("Call-ID", "x@y"),
        ]  # fmt: skip
        assert (response.cseq, response.get("Server"), response.body) == ((2, "BYE"), "x", b"b")
        assert response.get("Reason") is None

    def test_a_tag_stays(self) -> None:
        request = parse(BYE)
        assert isinstance(request, Request)
        assert response_to(request, 200, "OK", to_tag="t").get("To") == request.get("To")
        assert response_to(request, 200, "OK").to.tag == "1"


class TestReason:
    """RFC 3326."""

    @pytest.mark.parametrize(
        ("value", "cause"),
        [
            ("Q.850;cause=16", 16),
            ('q.850 ; text="a, b;cause=3" ; cause = 17', 17),
            ('SIP;cause=200;text="Call completed, elsewhere", Q.850;cause=0', 0),
            ("SIP;cause=200", None),
            ("Q.850;cause=128", None),
            ("Q.850;cause=x", None),
            ("Q.850", None),
            ("Q.8500;cause=1", None),
            ("Q.850;;cause=1", None),
            ('Q.850;cause=1;text="', None),
            ("Q.850;cause=١", None),
            ("", None),
        ],
    )
    def test_cause(self, value: str, cause: int | None) -> None:
        assert reason_cause(parse(with_line("").replace(b"Reason: SIP", b"X: SIP"))) is None
        assert reason_cause(Response(200, "OK", [("Reason", value)])) == cause
        assert reason_cause(Response(200, "OK", [("Reason", value), ("reason", "Q.850;cause=5")])) == (
            5 if cause is None else cause
        )


class TestStream:
    """RFC 3261 §18.3, RFC 5626 §3.5.1."""

    def test_keep_alives_are_eaten(self) -> None:
        stream = StreamParser()
        assert stream.feed(b"\r\n\r\n\r") == []
        assert len(stream.feed(b"\n" + BYE + b"\r\n" + BYE + b"\r\n")) == 2

    def test_a_fault_costs_one_message(self) -> None:
        bad = BYE.replace(b"CSeq: 2 BYE", b"CSeq: BYE")
        first, second, third = StreamParser().feed(BYE + bad + BYE)
        assert isinstance(first, Request)
        assert isinstance(second, Malformed)
        assert second.request
        assert second.request.call_id == "x@y"
        assert isinstance(third, Request)
        (odd,) = StreamParser().feed(ANSWER.replace(b"To:", b"Tu:"))
        assert isinstance(odd, Malformed)
        assert odd.request is None

    @pytest.mark.parametrize(
        "break_",
        [
            BYE.replace(b"Content-Length: 0\r\n", b""),
            BYE.replace(b"Content-Length: 0", b"Content-Length: 262145"),
            b"X: " + b"a" * MAX_HEAD + b"\r",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    )
    def test_what_breaks(self, break_: bytes) -> None:
        """What came before is not lost, and the break is final."""
        stream = StreamParser()
        assert len(stream.feed(BYE + break_)) == 1
        for _ in range(2):
            with pytest.raises(ParseError):
                stream.feed(BYE)
        with pytest.raises(ParseError):
            StreamParser().feed(break_)

    def test_a_head_is_capped_while_it_comes(self) -> None:
        """No more than the cap is ever kept of a head that does not end."""
        stream = StreamParser()
        stream.feed(b"a" * (MAX_HEAD + 3))
        with pytest.raises(ParseError, match="64 KiB"):
            stream.feed(b"a")


# -- requests of our own -----------------------------------------------------------------------------------


def written(*lines: str, body: bytes = b"") -> Written:
    lines = ("Via: SIP/2.0/UDP a;branch=z9hG4bK1", "From: <sip:a@b>;tag=1", "To: <sip:c@d>", *lines)
    return Written("BYE", "sip:c@d", [*lines, "Call-ID: x", "CSeq: 7 BYE"], body, cseq=7, branch="z9hG4bK1")


def test_a_written_request_says_of_itself_what_its_bytes_say() -> None:
    request = written("User-Agent: o: x", "Reason: ", body=b"body")
    read = parse(request.to_bytes())
    assert [*request.headers, ("Content-Length", "4")] == read.headers
    assert (request.branch, request.cseq, request.to_tag, request.call_id) == (
        read.branch,
        read.cseq,
        read.to_tag,
        read.call_id,
    )
    assert isinstance(read, Request)
    assert (request.method, request.uri, request.body) == (read.method, read.uri, read.body)


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\rb", "a\0b"])
def test_no_value_becomes_a_header_of_a_written_request(value: str) -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        written(f"Subject: {value}")
