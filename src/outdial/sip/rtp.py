"""Audio of calls: prompts played, keys and frames received (RFC 3550, RFC 3551, RFC 4733).

**Sending.** One ticker wakes all sessions of a process, each every 20 ms. A prompt's first packet has the
marker; between prompts nothing is sent unless `comfort` asks for silence, and timestamps go on by the clock.

**Where to send** (symmetric RTP). First to the address that the far end signalled. The first valid packet
that comes from that IP, from whatever port, latches address and port. A packet from another IP latches them
only in the first 5 seconds after `connect`, and only as long as the signalled IP has sent nothing (a PBX
behind NAT that signals its private address); should the signalled IP speak in these seconds after all, it
wins. Nothing else moves a stream, and packets from elsewhere are counted and thrown away. A new address in
a later `connect` begins anew.

**Receiving.** Outside of `listen` nobody needs audio, so on Linux a socket filter lets only telephone events
through, once the stream is latched; the kernel still counts what it drops. No RTCP is sent, and none is
expected: port + 1 stays unbound.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from outdial.g711 import ALAW_TO_ULAW, FRAME, SILENCE, ULAW_TO_ALAW
from outdial.sip.fields import ip_address
from outdial.sip.stream import (
    HEADER,
    KEY_PAUSE,
    MARKER,
    VERSION,
    Feed,
    Framer,
    Key,
    Keypad,
    Packet,
    Reception,
    parse,
    pressing,
)
from outdial.sip.udp import MediaError, PortRange, attach_filter, detach_filter, dropped
from outdial.sip.words import Media

__all__ = ["TICK", "Media", "MediaError", "MediaSession", "PortRange", "Ticker"]

TICK: Final = 0.005
"""Seconds between two wakings; each session takes part in every fourth."""

_PHASES: Final = 4
_TURN: Final = TICK * _PHASES
_CATCH_UP: Final = 3
"""Packets of one session that may leave at once when the process was held up; more are postponed."""

_EARLY: Final = 0.0005
"""Seconds by which a timer may fire before its time."""

STRANGERS_WELCOME: Final = 5.0
"""Seconds after `connect` in which another IP than the signalled one may latch the stream."""

_GAP: Final = 0.1
"""Seconds without a packet after which what is listened to counts as silence."""

_DATAGRAMS: Final = 64
"""Read for one readiness of a socket, so that no session holds up the others."""

_LARGEST: Final = 2048
_COMFORT_NOISE: Final = 13  # RFC 3389
_PCMU, _PCMA = 0, 8  # RFC 3551 §6


# -- the ticker ------------------------------------------------------------------------------------------


class Ticker:
    """Wakes the sessions of one event loop, each every 20 ms, a quarter of them every 5 ms.

    It runs while a session sends. Turns are counted on the monotonic clock, so timestamps, which follow from
    them, go on over pauses. When it was held up, each session sends up to 3 packets at once, and what would
    come on top is moved on: the audio then has a gap and no burst.
    """

    def __init__(self) -> None:
        self.max_late = 0.0
        """Seconds by which a turn's last packet left late at most; may be set to 0."""
        self._sending: tuple[dict[MediaSession, None], ...] = tuple({} for _ in range(_PHASES))
        self._members = [0] * _PHASES
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None

    def enter(self) -> int:
        """The phase of a new session: the emptiest."""
        phase = self._members.index(min(self._members))
        self._members[phase] += 1
        return phase

    def leave(self, phase: int) -> None:
        """A session of this phase is gone."""
        self._members[phase] -= 1

    def start(self, session: MediaSession, phase: int) -> None:
        """Wake this session from its next turn on."""
        self._sending[phase][session] = None
        if self._timer is None:
            now = monotonic()
            self._next = int(now / TICK) + 1
            self._wait(now)

    def stop(self, session: MediaSession, phase: int) -> None:
        """Wake this session no more."""
        self._sending[phase].pop(session, None)

    def _wait(self, now: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, self._next * TICK - now), self._turn)

    def _turn(self) -> None:
        """All turns that are due. The loop's own clock would not do: uvloop stops it during a callback."""
        now = monotonic()
        while (due := self._next * TICK) <= now + _EARLY:
            self._skip(now - due)
            turn, phase = divmod(self._next, _PHASES)
            self._next += 1
            for session in tuple(self._sending[phase]):
                session.send_frame(turn)
            self.max_late = max(self.max_late, monotonic() - due)
        self._timer = None
        if any(self._sending):
            self._wait(monotonic())

    def _skip(self, late: float) -> None:
        """Leave out whole rounds, so that what is made up for stays within `_CATCH_UP` packets a session."""
        rounds = int(late / _TURN) - (_CATCH_UP - 1)
        if rounds > 0:
            self._next += rounds * _PHASES


# -- one call's audio ------------------------------------------------------------------------------------


class MediaSession:
    """The audio of one call, from its offer to its end. All methods belong to the loop's thread.

    `sent` and `unsent` count packets that the system took and did not take; `malformed` datagrams that are no
    RTP or of no agreed payload type; `strangers` datagrams from an address that may not speak. None of what
    comes in is logged.
    """

    def __init__(
        self,
        ticker: Ticker,
        sock: socket.socket,
        *,
        on_key: Callable[[str, int], None],
        event_pt: int = 101,
        comfort: bool = False,
    ) -> None:
        """Take over a bound UDP socket. `on_key` gets a key (0-9*#ABCD) and for how many ms it was held.

        `event_pt` is the payload type of telephone events in our offer; that of theirs is heard too.
        `comfort`: send silence while no prompt plays.
        """
        self.sent = self.unsent = self.malformed = self.strangers = 0
        self._loop = asyncio.get_running_loop()
        self._ticker, self._phase = ticker, ticker.enter()
        self._socket = sock
        self._port: int = sock.getsockname()[1]
        self._on_key = on_key
        self._our_event_pt = event_pt
        self._comfort = comfort
        self._open_sending()
        self._open_receiving()

    def _open_sending(self) -> None:
        self._media: Media | None = None
        self._may_send = False
        self._target: tuple[str, int] = ("", 0)
        self._alaw = False
        self._payload_type = _PCMU
        self._ssrc = secrets.randbits(32)
        self._sequence = secrets.randbits(16)
        self._clock_offset = secrets.randbits(32)
        self._begins = True  # the next packet is a prompt's first
        self._last_turn = 0
        self._audio = b""
        self._at = 0
        self._on_done: Callable[[], None] | None = None
        self._feed = Feed()
        self._presses: deque[tuple[bytes, bool]] = deque()  # packets of keys, and whether it is the first
        self._pressed_turn = self._press_pt = 0

    def _open_receiving(self) -> None:
        self._signalled = ""
        self._latched: tuple[str, int] | None = None
        self._signalled_spoke = False
        self._connected_at = 0.0
        self._event_pts: frozenset[int] = frozenset({self._our_event_pt})
        self._codecs: dict[int, bytes | None] = {_PCMU: None, _PCMA: ALAW_TO_ULAW, _COMFORT_NOISE: None}
        self._reception = Reception()
        self._keypad = Keypad()
        self._key_timer: asyncio.TimerHandle | None = None
        self._on_frame: Callable[[bytes], None] | None = None
        self._framer = Framer()
        self._framed_at = 0.0
        self._gap_timer: asyncio.TimerHandle | None = None
        self._filtered = False
        self._read = 0
        self._dropped = 0
        self._last_received_at: float | None = None
        self._loop.add_reader(self._socket.fileno(), self._drain)

    # -- what is known of it --

    @property
    def local_port(self) -> int:
        """The port of our offer."""
        return self._port

    @property
    def lost(self) -> int:
        """Packets of theirs that were lost on the way, while all of them were read."""
        return self._reception.lost

    @property
    def received_packets(self) -> int:
        """Valid packets of theirs, and every datagram that the socket filter or a full buffer dropped."""
        self._count_dropped()
        return self._read + self._dropped

    @property
    def last_received_at(self) -> float | None:
        """When something came last, on the loop's clock.

        What the filter drops is noticed when this is read, so it is as exact as it is read often.
        """
        self._count_dropped()
        return self._last_received_at

    @property
    def _closed(self) -> bool:
        return self._socket.fileno() == -1

    def _count_dropped(self) -> None:
        if self._closed:
            return
        count = dropped(self._socket)
        if count != self._dropped:
            self._dropped = count
            self._last_received_at = self._loop.time()

    # -- what is agreed on --

    def connect(self, media: Media) -> None:
        """Send to and hear what was agreed on; again after each new agreement (re-INVITE).

        Port 0 or an address of zeros (the old way to hold, RFC 3264 §8.4) stops sending, as a direction of
        ours without "send" does; what plays then waits. Raises `MediaError` for an address that audio cannot
        go to.
        """
        address = self._address_of(media)
        before = self._media
        self._media = media
        if before is None or (before.address, before.port) != (media.address, media.port):
            self._signalled, self._target = address, (address, media.port)
            self._latched, self._signalled_spoke = None, False
            self._connected_at = self._loop.time()
        self._alaw, self._payload_type = media.codec == "PCMA", media.codec_pt
        self._codecs[media.codec_pt] = ALAW_TO_ULAW if self._alaw else None
        self._press_pt = media.event_pt or 0
        self._event_pts = frozenset({self._our_event_pt, self._press_pt or self._our_event_pt})
        held = media.port == 0 or ip_address(address).is_unspecified
        self._may_send = not held and media.direction in ("sendrecv", "sendonly")
        self._unfilter()  # the next packet puts it back, where it still holds
        self._wake()

    def _address_of(self, media: Media) -> str:
        try:
            address = ip_address(media.address)
        except ValueError:
            raise MediaError(f"audio to {media.address[:64]!r}: not an IP address") from None
        wanted = 6 if self._socket.family == socket.AF_INET6 else 4
        if address.is_multicast or not (address.version == wanted or address.is_unspecified):
            raise MediaError(f"audio to {address}: only one host can be sent to, over IPv{wanted}")
        return str(address)

    def close(self) -> None:
        """End it: the port is free, no callback comes any more, and the counts stay."""
        if self._closed:
            return
        self.stop()
        self._may_send = False
        self._count_dropped()
        self._ticker.stop(self, self._phase)
        self._ticker.leave(self._phase)
        self._on_frame = None
        for timer in (self._key_timer, self._gap_timer):
            if timer is not None:
                timer.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    # -- sending --

    def play(self, audio: bytes, on_done: Callable[[], None]) -> None:
        """Play µ-law of 8 kHz in place of what plays; `on_done` follows when its last packet is over.

        It waits where nothing may be sent: before `connect`, and while the call is held. A prompt that is
        played out of `on_done` follows without a gap.
        """
        self._audio, self._at, self._on_done = audio, 0, on_done
        self._begins = True
        self._wake()

    def stop(self) -> None:
        """End the prompt at once; its `on_done` is not called."""
        self._audio, self._at, self._on_done = b"", 0, None

    def feed(self, frame: bytes) -> None:
        """Send this frame of µ-law when its turn comes, while no prompt plays."""
        self._feed.add(frame)
        self._wake()

    def press(self, key: str, milliseconds: int) -> None:
        """Send a key, in place of audio; nothing where the far end takes no telephone events."""
        if self._press_pt:
            self._presses += pressing(key, milliseconds)
            self._wake()

    @property
    def _sends(self) -> bool:
        return self._may_send and bool(self._on_done or self._comfort or self._feed or self._presses)

    def _wake(self) -> None:
        if self._sends and not self._closed:
            self._ticker.start(self, self._phase)

    def send_frame(self, turn: int) -> None:
        """Send what belongs into this turn of 20 ms; the ticker calls it."""
        if self._may_send and self._on_done is not None and self._at >= len(self._audio):
            self._finish()
        if not self._sends:
            self._ticker.stop(self, self._phase)
            return
        if self._presses:
            self._send_press(turn)
            return
        frame = self._audio[self._at : self._at + FRAME]
        self._at += len(frame)
        if self._on_done is None:
            frame = self._feed.take()
        if len(frame) < FRAME:
            frame += SILENCE * (FRAME - len(frame))
        self._send(frame.translate(ULAW_TO_ALAW) if self._alaw else frame, turn)

    def _send(self, payload: bytes, turn: int) -> None:
        first = self._begins or turn != self._last_turn + 1
        kind = self._payload_type | (MARKER if first else 0)
        self._begins, self._last_turn = False, turn
        self._emit(payload, kind, turn)

    def _send_press(self, turn: int) -> None:
        payload, first = self._presses.popleft()
        self._pressed_turn = turn if first else self._pressed_turn
        self._last_turn = turn
        self._emit(payload, self._press_pt | (MARKER if first else 0), self._pressed_turn)

    def _emit(self, payload: bytes, kind: int, turn: int) -> None:
        timestamp = (self._clock_offset + turn * FRAME) & 0xFFFFFFFF
        self._sequence = (self._sequence + 1) & 0xFFFF
        header = HEADER.pack(VERSION, kind, self._sequence, timestamp, self._ssrc)
        try:
            self._socket.sendto(header + payload, self._target)
            self.sent += 1
        except OSError:
            self.unsent += 1  # a full buffer or an address out of reach: as good as lost on the way

    def _finish(self) -> None:
        done = self._on_done
        self.stop()
        try:
            if done is not None:
                done()
        except Exception as error:  # the other sessions of this turn go on
            self._loop.call_exception_handler({"message": "on_done of a prompt failed", "exception": error})

    # -- receiving --

    def listen(self, on_frame: Callable[[bytes], None] | None) -> None:
        """Hand what is heard to `on_frame`, as frames of 20 ms of µ-law; None ends it.

        From the first packet on there is one frame for every 20 ms: what is lost, or not sent because it is
        silence, comes as silence, up to 0.1 s late.
        """
        if self._closed:
            return
        self._on_frame = on_frame
        self._framer = Framer()
        if self._gap_timer is not None:
            self._gap_timer.cancel()
        if on_frame is None:
            self._filter()
            return
        self._unfilter()
        self._framed_at = self._loop.time()
        self._gap_timer = self._loop.call_later(_GAP, self._fill_gap)

    def _drain(self) -> None:
        for _ in range(_DATAGRAMS):
            try:
                data, source = self._socket.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of something that was sent
            self._receive(data, (source[0], source[1]))
            if self._closed:
                return  # by a callback

    def _receive(self, data: bytes, source: tuple[str, int]) -> None:
        packet = parse(data)
        kind = packet.payload_type if packet is not None else -1
        if packet is None or not (kind in self._codecs or kind in self._event_pts):
            self.malformed += 1
        elif source != self._latched and not self._latch(source):
            self.strangers += 1
        else:
            self._read += 1
            self._last_received_at = self._loop.time()
            self._accept(packet)

    def _accept(self, packet: Packet) -> None:
        if not self._filtered:
            self._reception.count(packet)
            self._filter()
        if packet.payload_type in self._event_pts:
            self._tell(self._keypad.hear(packet, self._loop.time()))
            self._wait_for_key()
        elif self._on_frame is not None and packet.payload_type != _COMFORT_NOISE:
            table = self._codecs[packet.payload_type]
            ulaw = packet.payload.translate(table) if table else packet.payload
            self._framed_at = self._loop.time()
            self._hand_on(self._framer.hear(packet, ulaw))

    def _latch(self, source: tuple[str, int]) -> bool:
        """Whether a packet from here may be heard, and with that, where to send from now on."""
        early = self._loop.time() - self._connected_at <= STRANGERS_WELCOME
        signalled = source[0] == self._signalled
        open_to = early or (signalled and self._latched is None)
        if self._signalled_spoke or not open_to or (self._latched is not None and not signalled):
            return False
        self._signalled_spoke = signalled
        self._latched = self._target = source
        return True

    def _tell(self, keys: list[Key]) -> None:
        for key in keys:
            if not self._closed:
                self._on_key(key.key, key.milliseconds)

    def _wait_for_key(self) -> None:
        """See to it that a key counts whose end never comes."""
        if self._key_timer is None and self._keypad.is_down and not self._closed:
            self._key_timer = self._loop.call_later(KEY_PAUSE / 2, self._expire_key)

    def _expire_key(self) -> None:
        self._key_timer = None
        self._tell(self._keypad.expire(self._loop.time()))
        self._wait_for_key()

    def _hand_on(self, frames: list[bytes]) -> None:
        for frame in frames:
            if self._on_frame is not None:
                self._on_frame(frame)

    def _fill_gap(self) -> None:
        """While it is listened to: nothing came for a while, so what is heard is silence."""
        quiet = self._loop.time() - self._framed_at
        self._gap_timer = self._loop.call_later(max(_GAP - quiet, _TURN), self._fill_gap)
        if quiet >= _GAP:
            self._hand_on(self._framer.fill())

    # -- the socket filter --

    def _filter(self) -> None:
        """Let the kernel drop audio, if the stream is latched for good and nobody listens."""
        if self._filtered or self._on_frame is not None:
            return
        late = self._loop.time() - self._connected_at > STRANGERS_WELCOME
        if self._signalled_spoke or (late and self._latched is not None):
            self._filtered = attach_filter(self._socket, self._event_pts)
            if self._filtered:
                self._reception.interrupt()

    def _unfilter(self) -> None:
        if self._filtered:
            detach_filter(self._socket)
            self._filtered = False
