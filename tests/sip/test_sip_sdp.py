"""Offers and answers (RFC 3264, RFC 4566)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import SDP, SDP_MANY

from outdial.sip import sdp
from outdial.sip.message import ParseError
from outdial.sip.sdp import Media, SdpError, read


def lines(body: bytes) -> list[str]:
    assert body.endswith(b"\r\n")
    return body.decode("ascii").split("\r\n")[:-1]


def answered(body: bytes) -> list[str]:
    """Our answer to an offer of theirs."""
    return lines(sdp.answer(read(body), address="10.0.0.1", port=4000, session_id=7, version=3))


class TestOffer:
    def test_as_written(self) -> None:
        assert lines(sdp.offer(address="192.0.2.1", port=4000, session_id=7)) == [
            "v=0",
            "o=- 7 1 IN IP4 192.0.2.1",
            "s=-",
            "c=IN IP4 192.0.2.1",
            "t=0 0",
            "m=audio 4000 RTP/AVP 0 8 101",
            "a=rtpmap:0 PCMU/8000",
            "a=rtpmap:8 PCMA/8000",
            "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-16",
            "a=ptime:20",
            "a=sendrecv",
        ]

    def test_ipv6_and_choices(self) -> None:
        body = sdp.offer(
            address="2001:db8::1",
            port=2,
            session_id=7,
            version=9,
            direction="inactive",
            codecs=["PCMA"],
            event_pt=None,
        )
        assert lines(body)[1] == "o=- 7 9 IN IP6 2001:db8::1"
        assert lines(body)[3] == "c=IN IP6 2001:db8::1"
        assert lines(body)[5:] == ["m=audio 2 RTP/AVP 8", "a=rtpmap:8 PCMA/8000", "a=ptime:20", "a=inactive"]

    @pytest.mark.parametrize("codecs", [["opus"], ["PCMU", "G729"], []])
    def test_unknown_codecs(self, codecs: list[str]) -> None:
        with pytest.raises(ValueError, match="PCMU, PCMA"):
            sdp.offer(address="::1", port=2, session_id=7, codecs=codecs)

    @settings(deadline=None)
    @given(
        st.ip_addresses().filter(lambda ip: not (ip.is_multicast or ip.is_unspecified)),
        st.integers(1, 65535),
        st.sampled_from(list(sdp.MIRRORED)),
        st.permutations(["PCMU", "PCMA"]),
        st.none() | st.integers(96, 127),
    )
    def test_round_trip(
        self, address: object, port: int, direction: str, codecs: list[str], event_pt: int | None
    ) -> None:
        """What we write we read the same."""
        body = sdp.offer(
            address=str(address),
            port=port,
            session_id=1,
            direction=direction,
            codecs=codecs,
            event_pt=event_pt,
        )
        media = read(body)
        types = tuple(sdp.STATIC[codec] for codec in codecs) + (() if event_pt is None else (event_pt,))
        assert (media.address, media.port, media.payload_types) == (str(address), port, types)
        assert (media.codec, media.codec_pt, media.event_pt) == (codecs[0], types[0], event_pt)
        assert (media.direction, media.ptime) == (direction, 20)


class TestRead:
    def test_all_parts(self) -> None:
        """sipp's telephone-event has payload type 96: theirs counts, not ours."""
        assert read(SDP) == Media(
            "127.0.0.1",
            6000,
            (0, 8, 96),
            "PCMU",
            0,
            96,
            "sendrecv",
            20,
            ("audio 6000 RTP/AVP 0 8 96",),
            0,
            "0 0",
        )

    def test_the_first_stream_that_we_speak(self) -> None:
        """Past video, a refused stream and SRTP; PCMA by its rtpmap; the stream's own address, direction."""
        media = read(SDP_MANY)
        assert (media.address, media.port, media.chosen) == ("2001:db8::3", 7002, 3)
        assert (media.codec, media.codec_pt, media.event_pt) == ("PCMA", 98, 101)
        assert (media.direction, media.ptime, media.time) == ("sendonly", 30, "3034423619 0")
        assert len(media.streams) == 5

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            (b"a=sendrecv", b"a=recvonly  ", "recvonly"),
            (b"a=sendrecv\r\n", b"", "sendrecv"),
            (b"t=0 0", b"t=0 0\r\na=inactive", "sendrecv"),  # the media's own goes before
            (b"\r\na=sendrecv", b"", "sendrecv"),
            (b"127.0.0.1\r\nt", b"0.0.0.0\r\nt", "sendonly"),  # RFC 3264 §8.4
        ],
    )
    def test_direction(self, old: bytes, new: bytes, expected: str) -> None:
        assert SDP.count(old) == 1
        assert read(SDP.replace(old, new)).direction == expected

    def test_direction_of_the_session(self) -> None:
        body = SDP.replace(b"a=sendrecv\r\n", b"").replace(b"t=0 0", b"t=0 0\r\na=sendonly")
        assert read(body).direction == "sendonly"
        assert (
            read(
                body.replace(b"a=sendonly", b"a=recvonly").replace(b"IP4 127.0.0.1\r\nt", b"IP4 0.0.0.0\r\nt")
            ).direction
            == "inactive"
        )

    @pytest.mark.parametrize(
        ("old", "new", "codec", "event"),
        [
            (b"a=rtpmap:0 PCMU/8000\r\n", b"", ("PCMU", 0), 96),  # static without rtpmap
            (b"AVP 0 8 96", b"AVP 8 0 96", ("PCMA", 8), 96),  # their order
            (b"rtpmap:0 PCMU/8000", b"rtpmap:0 opus/48000/2", ("PCMA", 8), 96),
            (b"rtpmap:0 PCMU/8000", b"rtpmap:0 PCMU/16000", ("PCMA", 8), 96),
            (b"rtpmap:0 PCMU/8000", b"rtpmap:0 PCMU/8000/2", ("PCMA", 8), 96),
            (b"rtpmap:0 PCMU/8000", b"rtpmap:0 pcmu/8000/1", ("PCMU", 0), 96),
            (b"rtpmap:96 telephone-event/8000", b"rtpmap:97 telephone-event/8000", ("PCMU", 0), None),
            (b"rtpmap:96 telephone-event/8000", b"rtpmap:96 telephone-event/16000", ("PCMU", 0), None),
            (b"AVP 0 8 96", b"AVP 0 8", ("PCMU", 0), None),
            (b"\r\n", b"\n", ("PCMU", 0), 96),  # RFC 4566 §5
            (b"6000 ", b"6000/2 ", ("PCMU", 0), 96),
            (b"IP4 127.0.0.1\r\nt", b"IP4 127.0.0.1/127\r\nt", ("PCMU", 0), 96),
        ],
    )
    def test_codecs(self, old: bytes, new: bytes, codec: tuple[str, int], event: int | None) -> None:
        assert old in SDP
        media = read(SDP.replace(old, new))
        assert ((media.codec, media.codec_pt), media.event_pt) == (codec, event)
        assert (media.address, media.port) == ("127.0.0.1", 6000)

    def test_the_streams_own_address(self) -> None:
        """A c= line below the m= line goes before the session's (RFC 4566 §5.7)."""
        assert read(SDP.replace(b"a=ptime", b"c=IN IP4 127.0.0.9\r\na=ptime")).address == "127.0.0.9"

    @pytest.mark.parametrize("value", [b"0", b"x", b"1000", b""])
    def test_ptime(self, value: bytes) -> None:
        """What is no time of a packet is none; a fraction is cut."""
        assert read(SDP.replace(b"ptime:20", b"ptime:" + value)).ptime is None
        assert read(SDP.replace(b"ptime:20", b"ptime:30.5")).ptime == 30

    @pytest.mark.parametrize(
        ("old", "new", "why"),
        [
            (b"v=0", b"v=1", "v=0"),
            (b"m=audio 6000 RTP/AVP 0 8 96", b"a=x", "no audio stream"),
            (b"6000", b"0", "refused"),
            (b"6000", b"65536", "65535"),
            (b"RTP/AVP", b"RTP/SAVP", "RTP/AVP"),
            (b"AVP 0 8 96", b"AVP 18 96", "neither PCMU nor PCMA"),
            (b"AVP 0 8 96", b"AVP 0 128", "payload type"),
            (b"AVP 0 8 96", b"AVP 0 *", "payload type"),
            (b"m=audio 6000", b"m=audio -1", "m= line"),
            (b"m=audio 6000 RTP/AVP 0 8 96", b"m=audio 6000 RTP/AVP", "m= line"),
            (b"c=IN", b"x=IN", "no c= line"),
            (b"c=IN IP4 127.0.0.1", b"c=IN IP4 host.example", "no c= line"),
            (b"c=IN IP4 127.0.0.1", b"c=IN IP4 1.2.3", "no IP address"),
            (b"c=IN IP4 127.0.0.1", b"c=IN IP6 127.0.0.1", "family"),
            (b"c=IN IP4 127.0.0.1", b"c=IN IP4 224.0.0.1/7", "multicast"),
            (b"a=ptime:20", b"a=x\r\n" * sdp.MAX_LINES, "1000 lines"),
            (b"a=ptime:20", b"m=x 1 y z\r\n" * sdp.MAX_STREAMS, "32 m= lines"),
            (b"a=ptime:20", b"a=" + b"x" * sdp.MAX_SDP, "32 KiB"),
        ],
    )
    def test_refused(self, old: bytes, new: bytes, why: str) -> None:
        assert SDP.count(old) == 1
        with pytest.raises(SdpError, match=why.replace("*", r"\*")):
            read(SDP.replace(old, new))
        assert issubclass(SdpError, ParseError)

    def test_nothing(self) -> None:
        with pytest.raises(SdpError):
            read(b"")


class TestAnswer:
    """RFC 3264 §6."""

    def test_one_codec_their_event_type(self) -> None:
        assert answered(SDP) == [
            "v=0",
            "o=- 7 3 IN IP4 10.0.0.1",
            "s=-",
            "c=IN IP4 10.0.0.1",
            "t=0 0",
            "m=audio 4000 RTP/AVP 0 96",
            "a=rtpmap:0 PCMU/8000",
            "a=rtpmap:96 telephone-event/8000",
            "a=fmtp:96 0-16",
            "a=ptime:20",
            "a=sendrecv",
        ]
        assert answered(SDP.replace(b" 96\r\n", b"\r\n"))[5:7] == [
            "m=audio 4000 RTP/AVP 0",
            "a=rtpmap:0 PCMU/8000",
        ]

    def test_as_many_streams(self) -> None:
        """In their order, all but the chosen one refused with port 0; their t= line."""
        told = answered(SDP_MANY)
        assert [line for line in told if line.startswith("m=")] == [
            "m=video 0 RTP/AVPF 96 97",
            "m=audio 0 RTP/AVP 0",
            "m=audio 0 RTP/SAVP 0",
            "m=audio 4000 RTP/AVP 98 101",
            "m=application 0 TCP/BFCP *",
        ]
        assert told[4] == "t=3034423619 0"
        assert told[told.index("m=audio 4000 RTP/AVP 98 101") + 1] == "a=rtpmap:98 PCMA/8000"

    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            ("sendrecv", "sendrecv"),
            ("sendonly", "recvonly"),
            ("recvonly", "sendonly"),
            ("inactive", "inactive"),
        ],
    )
    def test_mirrored(self, theirs: str, ours: str) -> None:
        """§6.1."""
        assert answered(SDP.replace(b"sendrecv", theirs.encode()))[-1] == f"a={ours}"

    def test_held_by_an_address_of_zeros(self) -> None:
        """§8.4: they hear nothing, so we send nothing."""
        assert answered(SDP.replace(b"IP4 127.0.0.1\r\nt", b"IP4 0.0.0.0\r\nt"))[-1] == "a=recvonly"
