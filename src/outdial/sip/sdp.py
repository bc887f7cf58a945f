"""Offers and answers of one audio stream (RFC 3264, RFC 4566, RFC 3551, RFC 4733).

We speak G.711 (PCMU and PCMA) and telephone events over RTP/AVP, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from outdial.sip.fields import ParseError, ip_address

MAX_SDP: Final = 32 * 1024
"""Bytes of a description that we read."""
MAX_LINES: Final = 1000
MAX_STREAMS: Final = 32
"""m= lines of a description; the answer repeats each of them."""

STATIC: Final = {"PCMU": 0, "PCMA": 8}
"""The payload types of RFC 3551 table 4 that need no rtpmap."""

PTIME: Final = 20
"""Milliseconds of audio in each of our packets."""

MIRRORED: Final = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}
"""A direction, and the one that answers it (RFC 3264 §6.1)."""

_STREAM = re.compile(r"([A-Za-z0-9\-]+) ([0-9]{1,5})(?:/[0-9]{1,5})? ([A-Za-z0-9/\-]+)((?: [!-~]+)+)")
_CONNECTION = re.compile(r"IN IP([46]) ([0-9A-Fa-f.:]+)(?:/[0-9/]+)?")
_RTPMAP = re.compile(r"rtpmap:([0-9]{1,3}) +([A-Za-z0-9.\-]+)/([0-9]{1,6})(?:/([0-9]{1,2}))?")
_PTIME = re.compile(r"ptime: ?([0-9]{1,3})(?:\.[0-9]+)?")
_PAYLOAD_TYPE = re.compile(r"[0-9]{1,3}")
_TIME = re.compile(r"[0-9]{1,20} [0-9]{1,20}")


class SdpError(ParseError):
    """The description is malformed, or has no audio stream that we can speak."""


@dataclass(frozen=True, slots=True)
class Media:
    """Their end of the audio stream. `direction` is as they see it; `ptime` in milliseconds.

    `streams` are all their m= lines and `chosen` the place of this one; an answer needs them. Nothing is
    to be sent to an address of zeros: then `direction` is one in which they do not receive.
    """

    address: str
    port: int
    payload_types: tuple[int, ...]
    codec: str
    codec_pt: int
    event_pt: int | None
    direction: str
    ptime: int | None
    streams: tuple[str, ...] = ()
    chosen: int = 0
    time: str = "0 0"


def offer(
    *,
    address: str,
    port: int,
    session_id: int,
    version: int = 1,
    direction: str = "sendrecv",
    codecs: Sequence[str] = ("PCMU", "PCMA"),
    event_pt: int | None = 101,
) -> bytes:
    """Offer one audio stream at our IP address. Raises `ValueError` for a codec that we do not speak."""
    unknown = [codec for codec in codecs if codec not in STATIC]
    if unknown or not codecs:
        raise ValueError(f"codecs: one or more of {', '.join(STATIC)}, not {', '.join(unknown) or 'none'}")
    stream = _stream(port, [(STATIC[codec], codec) for codec in codecs], event_pt, direction)
    return _description(address, session_id, version, "0 0", stream)


def answer(theirs: Media, *, address: str, port: int, session_id: int, version: int) -> bytes:
    """Answer their offer: their codec and event type, the mirrored direction, all other streams refused.

    As many m= lines as the offer has, in its order (RFC 3264 §6).
    """
    lines: list[str] = []
    for place, stream in enumerate(theirs.streams or ("audio",)):
        if place == theirs.chosen:
            codec = [(theirs.codec_pt, theirs.codec)]
            lines += _stream(port, codec, theirs.event_pt, MIRRORED[theirs.direction])
        else:
            media, _, protocol, formats = stream.split(" ", 3)
            lines.append(f"m={media} 0 {protocol} {formats}")
    return _description(address, session_id, version, theirs.time, lines)


def read(body: bytes) -> Media:
    """Read an offer or an answer: the first audio stream that we can speak. Raises `SdpError`."""
    if len(body) > MAX_SDP:
        raise SdpError("SDP: over 32 KiB")
    session, sections = _sections(body)
    streams = tuple(section.stream for section in sections)
    fault = "SDP: no audio stream"
    for place, section in enumerate(sections):
        if section.media != "audio":
            continue
        try:
            return replace(_media(section, session), streams=streams, chosen=place, time=session.time)
        except SdpError as error:
            fault = str(error)
    raise SdpError(fault)


@dataclass(slots=True)
class _Section:
    """What stands at session level, or below one m= line."""

    stream: str = ""
    media: str = ""
    port: int = 0
    protocol: str = ""
    formats: tuple[str, ...] = ()
    connection: str | None = None
    direction: str | None = None
    ptime: int | None = None
    time: str = "0 0"
    maps: dict[int, tuple[str, int, int]] = field(default_factory=dict)


def _sections(body: bytes) -> tuple[_Section, list[_Section]]:
    lines = body.decode("utf-8", "replace").replace("\r\n", "\n").split("\n", MAX_LINES)
    if len(lines) > MAX_LINES:
        raise SdpError("SDP: over 1000 lines")
    if lines[0] != "v=0":
        raise SdpError("SDP: the first line is not v=0")
    session = section = _Section()
    sections: list[_Section] = []
    for line in lines:
        kind, value = line[:2], line[2:].rstrip(" ")
        if kind == "a=":
            _read_attribute(section, value)
        elif kind == "m=":
            section = _read_stream(value)
            sections.append(section)
        elif kind == "c=":
            section.connection = value
        elif kind == "t=" and _TIME.fullmatch(value):
            section.time = value
    if len(sections) > MAX_STREAMS:
        raise SdpError("SDP: over 32 m= lines")
    return session, sections


def _read_stream(value: str) -> _Section:
    match = _STREAM.fullmatch(value)
    if match is None:
        raise SdpError("SDP: an m= line is not media, port, protocol and formats")
    media, port, protocol, formats = match.groups()
    return _Section(match[0], media, int(port), protocol, tuple(formats.split()))


def _read_attribute(section: _Section, value: str) -> None:
    if value in MIRRORED:
        section.direction = value
    elif match := _RTPMAP.fullmatch(value):
        section.maps[int(match[1])] = match[2].upper(), int(match[3]), int(match[4] or 1)
    elif match := _PTIME.fullmatch(value):
        section.ptime = int(match[1]) or None


def _media(section: _Section, session: _Section) -> Media:
    if section.port == 0:
        raise SdpError("SDP: the audio stream is refused, its port is 0")
    if section.port > 65535 or section.protocol != "RTP/AVP":
        raise SdpError("SDP: the audio stream is not RTP/AVP on a port up to 65535")
    types = _payload_types(section.formats)
    names = {number: _name(number, section) for number in types}
    codec_pt = next((number for number in types if names[number] in STATIC), None)
    if codec_pt is None:
        raise SdpError("SDP: neither PCMU nor PCMA")
    address, silent = _address(section.connection or session.connection)
    direction = section.direction or session.direction or "sendrecv"
    return Media(
        address=address,
        port=section.port,
        payload_types=types,
        codec=names[codec_pt],
        codec_pt=codec_pt,
        event_pt=next((number for number in types if names[number] == "TELEPHONE-EVENT"), None),
        direction=_without_receiving(direction) if silent else direction,
        ptime=section.ptime or session.ptime,
    )


def _payload_types(formats: tuple[str, ...]) -> tuple[int, ...]:
    if not all(_PAYLOAD_TYPE.fullmatch(number) and int(number) < 128 for number in formats):
        raise SdpError("SDP: a payload type is not a number from 0 to 127")
    return tuple(dict.fromkeys(int(number) for number in formats))


def _name(number: int, section: _Section) -> str:
    """What a payload type is: its rtpmap, else its static meaning, else nothing that we know."""
    if number in section.maps:
        name, rate, channels = section.maps[number]
        return name if (rate, channels) == (8000, 1) else ""
    return next((codec for codec, static in STATIC.items() if static == number), "")


def _address(connection: str | None) -> tuple[str, bool]:
    """The address of a c= line, and whether it is the zeros that mean silence (RFC 3264 §8.4)."""
    match = _CONNECTION.fullmatch(connection or "")
    if match is None:
        raise SdpError("SDP: no c= line with an IPv4 or IPv6 address")
    try:
        address = ip_address(match[2])
    except ValueError:
        raise SdpError("SDP: the c= line has no IP address") from None
    if address.version != int(match[1]) or address.is_multicast:
        raise SdpError("SDP: the c= line's address is multicast, or of another family than it says")
    return str(address), address.is_unspecified


def _without_receiving(direction: str) -> str:
    return "sendonly" if direction.startswith("send") else "inactive"


def _stream(port: int, codecs: list[tuple[int, str]], event_pt: int | None, direction: str) -> list[str]:
    types = [number for number, _ in codecs] + ([] if event_pt is None else [event_pt])
    lines = [f"m=audio {port} RTP/AVP {' '.join(map(str, types))}"]
    lines += [f"a=rtpmap:{number} {codec}/8000" for number, codec in codecs]
    if event_pt is not None:
        lines += [f"a=rtpmap:{event_pt} telephone-event/8000", f"a=fmtp:{event_pt} 0-16"]
    return [*lines, f"a=ptime:{PTIME}", f"a={direction}"]


def _description(address: str, session_id: int, version: int, time: str, streams: list[str]) -> bytes:
    family = "IP6" if ":" in address else "IP4"
    lines = [
        "v=0",
        f"o=- {session_id} {version} IN {family} {address}",
        "s=-",
        f"c=IN {family} {address}",
        f"t={time}",
        *streams,
        "",
    ]
    return "\r\n".join(lines).encode("ascii")
