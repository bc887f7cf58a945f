"""Valid SIP messages and descriptions, and ways to break them."""

from __future__ import annotations

from random import Random

SDP = (
    b"v=0\r\no=u 5 2 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 6000 RTP/AVP 0 8 96\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:96 telephone-event/8000\r\n"
    b"a=fmtp:96 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
)
SDP_MANY = (
    b"v=0\r\no=- 1 1 IN IP6 2001:db8::1\r\ns= \r\nt=3034423619 0\r\na=recvonly\r\n"
    b"m=video 5000/2 RTP/AVPF 96 97\r\nc=IN IP6 2001:db8::2\r\na=rtpmap:96 VP8/90000\r\n"
    b"m=audio 0 RTP/AVP 0\r\nm=audio 7000 RTP/SAVP 0\r\n"
    b"m=audio 7002 RTP/AVP 111 98 101\r\nc=IN IP6 2001:db8::3\r\na=rtpmap:111 opus/48000/2\r\n"
    b"a=rtpmap:98 pcma/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\na=ptime:30\r\n"
    b"m=application 9 TCP/BFCP *\r\n"
)
DESCRIPTIONS = (SDP, SDP_MANY, SDP.replace(b"IN IP4 127.0.0.1\r\nt", b"IN IP4 0.0.0.0\r\nt"))


def _message(head: str, body: bytes = b"") -> bytes:
    lines = [*head.strip("\n").split("\n"), f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


ANSWER = _message(
    """
SIP/2.0 200 OK
Via: SIP/2.0/UDP 127.0.0.1:5097;branch=z9hG4bKabc;rport=5097;received=127.0.0.1
From: "A, B" <sip:me@127.0.0.1>;tag=1
To: <sip:you@127.0.0.1>;tag=2
Call-ID: x@y
CSeq: 1 INVITE
Contact: <sip:127.0.0.1:5070;transport=UDP>
Record-Route: <sip:p1;lr>, "P, 2" <sip:p2;lr>
Allow: INVITE, ACK, BYE
Content-Type: application/sdp
""",
    SDP,
)
MESSAGES = (
    ANSWER,
    _message(
        """
BYE sip:me@127.0.0.1:5097 SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKq, SIP/2.0/TCP [2001:db8::1]:5071;branch=z9hG4bKr;rport
Max-Forwards: 70
From: <sip:you@127.0.0.1>;tag=2
To: <sip:me@127.0.0.1>;tag=1
Call-ID: x@y
CSeq: 2 BYE
Reason: SIP;cause=200;text="done, \\"really\\"", Q.850;cause=16;text="Terminated"
Date: Sat, 13 Nov 2010 23:29:00 GMT
"""
    ),
    _message(
        """
SIP/2.0 401 Unauthorized
v: SIP/2.0/UDP 127.0.0.1:5097;branch=z9hG4bKabc
f: <sip:me@127.0.0.1>;tag=1
t: sip:you@127.0.0.1;tag=2;x="a;b"
i: x@y
CSeq: 1 INVITE
WWW-Authenticate: Digest realm="a\\"b", nonce="n", qop="auth,auth-int", algorithm=SHA-256, stale=TRUE
WWW-Authenticate: Digest realm="a", nonce="n", opaque="", algorithm=MD5-sess, qop=auth
"""
    ),
    _message(
        """
INVITE sips:%61lice;x=y@[2001:db8::9]:5061;transport=tcp;lr SIP/2.0
Via: SIP / 2.0 / TLS  host-1.example.com : 5061 ; branch = z9hG4bK1 ; ttl=1
Route: <sip:a;lr>,<sip:b?x=y>
From: Ünï Cödé  <tel:+358-555-1234567;phone-context=+358>;tag=a.b
To: isbn:2983792873
Call-ID: 1
CSeq: 0000000001
 INVITE
m: "Quoted \\\\ \\"x\\"" <sip:u@h>;q=0.3;+sip.instance="<urn:uuid:1>" ,
 <sip:v@h>
Supported: timer,100rel
Subject:
Content-Type: application/sdp
""",
        SDP_MANY,
    ),
    _message(
        """
SIP/2.0 180
Via: SIP/2.0/UDP 10.0.0.1
From: sip:a@b
To: sip:b@c
Call-ID: q
CSeq: 2147483647 !odd-METHOD~
Contact: *
"""
    ),
)

_PIECES = (
    b"\0", b"\xff\xfe", b"\xc3\xa9", b"<", b">", b'"', b"\\", b",", b";", b"=", b"%00", b"@", b":", b"?",
    b"/", b"[", b"]", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\r\n ", b"\r\n\r\n", b" " * 50, b"9" * 40, b"-1",
    b"Content-Length: 3\r\n", b"l:0\r\n", b"SIP/2.0", b";tag=", b"m=audio 1 RTP/AVP 0\r\n", b"a=",
)  # fmt: skip


def mutate(data: bytes, draw: Random) -> bytes:
    """Flip, cut, insert and duplicate, one to ten times."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 4, 10))):
        place = int(draw.random() * (len(out) + 1))
        kind = int(draw.random() * 7)
        if kind == 0 and place < len(out):
            out[place] = int(draw.random() * 256)
        elif kind == 1:
            del out[place : place + int(draw.random() * 20)]
        elif kind in (2, 3):
            out[place:place] = _PIECES[int(draw.random() * len(_PIECES))]
        elif kind == 4:
            source = int(draw.random() * (len(out) + 1))
            out[place:place] = out[source : source + int(draw.random() * 80)]
        elif kind == 5 and draw.random() < 0.3:
            del out[place:]
        elif kind == 6:
            out[place:place] = draw.randbytes(int(draw.random() * 8))
    return bytes(out)
