"""Packets, losses, keys and frames of a received stream, without a socket."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtp_far_end import event, recorded

from outdial.g711 import FRAME, SILENCE
from outdial.sip.stream import KEY_PAUSE, Feed, Framer, Key, Keypad, Packet, Reception, parse, pressing

HEAD = struct.pack("!BBHII", 0x80, 0x80 | 8, 7, 160, 99)


def packet(
    payload: bytes = b"", sequence: int = 0, timestamp: int = 0, ssrc: int = 1, marker: bool = False
) -> Packet:
    return Packet(marker, 0, sequence, timestamp, ssrc, payload)


# -- packets (RFC 3550 §5.1) -----------------------------------------------------------------------------


def test_a_packet() -> None:
    assert parse(HEAD + b"audio") == Packet(True, 8, 7, 160, 99, b"audio")
    assert parse(HEAD) == Packet(True, 8, 7, 160, 99, b"")


def test_sources_extension_and_padding_are_no_payload() -> None:
    rest = HEAD[1:]
    sources, extension = bytes(8), b"\xbe\xde\0\1" + bytes(4)
    assert parse(b"\x82" + rest + sources + b"audio") == parse(HEAD + b"audio")
    assert parse(b"\x90" + rest + extension + b"audio") == parse(HEAD + b"audio")
    assert parse(b"\xa0" + rest + b"audio" + b"\0\0\3") == parse(HEAD + b"audio")
    assert parse(b"\xb2" + rest + sources + extension + b"audio\1") == parse(HEAD + b"audio")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD[:11],
        b"\x00" + HEAD[1:],  # version 0: STUN
        b"\x40" + HEAD[1:],
        b"\xc0" + HEAD[1:],
        b"\x81" + HEAD[1:],  # no room for its sources
        b"\x90" + HEAD[1:] + b"\0\0",
        b"\x90" + HEAD[1:] + b"\0\0\0\1",
        b"\xa0" + HEAD[1:] + b"audio\x07",  # more padding than payload
        b"\xa0" + HEAD[1:] + b"audio\0",
    ],
)
def test_what_is_no_packet(data: bytes) -> None:
    assert parse(data) is None


@given(st.binary(max_size=40))
def test_any_bytes_are_a_packet_or_none(data: bytes) -> None:
    found = parse(data)
    assert found is None or len(found.payload) <= len(data) - 12


# -- losses (RFC 3550 §A.1, §A.3) ------------------------------------------------------------------------


def lost(*sequences: int) -> int:
    reception = Reception()
    for sequence in sequences:
        reception.count(packet(sequence=sequence % 65_536))
    return reception.lost


def test_losses_by_sequence_number() -> None:
    assert lost(5, 6, 7) == 0
    assert lost(5, 6, 9, 10) == 2
    assert lost(5, 7, 6, 8) == 0  # out of order is not lost
    assert lost(5, 8, 6) == 1
    assert lost(65_534, 65_535, 65_536, 65_538) == 1  # over the end
    assert lost(*range(10, 70_010, 2)) == 34_999  # over the end, for long


def test_a_source_that_begins_anew_has_lost_nothing() -> None:
    assert lost(5, 6, 30_000, 30_001) == 0
    assert lost(30_000, 30_001, 5, 6) == 0
    assert lost(5, 7, 30_000, 30_002) == 2
    reception = Reception()
    for ssrc, sequence in ((1, 10), (1, 12), (2, 500), (2, 501)):
        reception.count(packet(sequence=sequence, ssrc=ssrc))
    assert reception.lost == 1


def test_what_goes_by_unseen_is_not_lost() -> None:
    reception = Reception()
    for sequence in (1, 3):
        reception.count(packet(sequence=sequence))
    reception.interrupt()
    assert reception.lost == 1
    for sequence in (500, 502):
        reception.count(packet(sequence=sequence))
    assert reception.lost == 2


# -- keys (RFC 4733) -------------------------------------------------------------------------------------


class Pad:
    """A keypad that is told packets at explicit times."""

    def __init__(self) -> None:
        self.keypad = Keypad()
        self.keys: list[Key] = []

    def hear(
        self, code: int, timestamp: int, duration: int, at: float = 0.0, marker: bool = False, **flags: bool
    ) -> None:
        one = packet(event(code, duration, **flags), timestamp=timestamp, marker=marker)
        self.keys += self.keypad.hear(one, at)

    def press(self, code: int, timestamp: int, **flags: bool) -> None:
        """As it should come: growing durations, then three copies of the end."""
        for step in range(1, 6):
            self.hear(code, timestamp, 160 * step, marker=step == 1, **flags)
        for _ in range(3):
            self.hear(code, timestamp, 960, end=True, **flags)


def test_each_key_counts_once_with_its_duration() -> None:
    pad = Pad()
    for code in range(16):
        pad.press(code, 1000 * code)
    assert "".join(key.key for key in pad.keys) == "0123456789*#ABCD"
    assert {key.milliseconds for key in pad.keys} == {120}


def test_the_reserved_bit_is_ignored() -> None:
    pad = Pad()
    pad.press(5, 0, reserved=True)
    assert pad.keys == [Key("5", 120)]


@pytest.mark.parametrize("copy", [0, 1, 2])
def test_the_end_may_come_in_any_of_its_copies(copy: int) -> None:
    pad = Pad()
    pad.hear(5, 0, 160, marker=True)
    for number in range(3):
        if number == copy:
            pad.hear(5, 0, 800, end=True)
    assert pad.keys == [Key("5", 100)]


def test_an_end_alone_is_a_key() -> None:
    pad = Pad()
    pad.hear(5, 0, 800, end=True)
    assert pad.keys == [Key("5", 100)]


def test_the_same_key_twice_is_two_keys() -> None:
    pad = Pad()
    pad.press(5, 0)
    pad.press(5, 1600)
    assert [key.key for key in pad.keys] == ["5", "5"]


def test_a_key_with_only_starts_counts_after_a_pause() -> None:
    pad = Pad()
    pad.hear(5, 0, 160, at=1.0, marker=True)
    pad.hear(5, 0, 320, at=1.02)
    assert pad.keypad.expire(1.02 + KEY_PAUSE - 0.01) == []
    assert pad.keypad.is_down
    assert pad.keypad.expire(1.02 + KEY_PAUSE + 0.01) == [Key("5", 40)]
    assert pad.keypad.expire(9.0) == []
    pad.hear(5, 0, 800, at=1.5, end=True)  # its end after all
    assert pad.keys == []


def test_a_key_with_only_starts_counts_when_the_next_begins() -> None:
    pad = Pad()
    pad.hear(1, 0, 160, marker=True)
    pad.press(2, 800)
    assert [key.key for key in pad.keys] == ["1", "2"]


def test_late_copies_of_an_earlier_end_do_not_disturb_the_next_key() -> None:
    pad = Pad()
    pad.hear(1, 0, 160, marker=True)
    pad.hear(1, 0, 320, end=True)
    pad.hear(2, 800, 160, marker=True)
    pad.hear(1, 0, 320, end=True)
    pad.hear(2, 800, 320)
    pad.hear(1, 0, 320, end=True)
    pad.hear(2, 800, 480, end=True)
    assert pad.keys == [Key("1", 40), Key("2", 60)]


def test_a_long_press_in_segments_is_one_key() -> None:
    """RFC 4733 §2.5.1.3: after 65,535 units the sender goes on with a new timestamp and no marker."""
    pad = Pad()
    pad.hear(5, 1000, 160, marker=True)
    pad.hear(5, 1000, 65_535)
    pad.hear(5, 66_535, 160)
    for _ in range(3):
        pad.hear(5, 66_535, 8000, end=True)
    assert pad.keys == [Key("5", (65_535 + 8000) // 8)]


def test_a_press_over_the_end_of_the_timestamps() -> None:
    pad = Pad()
    pad.press(5, 2**32 - 100)
    pad.hear(6, 2**32 - 1000, 65_535, marker=True)
    pad.hear(6, (2**32 - 1000 + 65_535) % 2**32, 800, end=True)
    assert pad.keys == [Key("5", 120), Key("6", (65_535 + 800) // 8)]


def test_what_is_no_key() -> None:
    pad = Pad()
    pad.press(16, 0)  # a hook flash
    pad.press(36, 1000)  # a fax
    pad.keys += pad.keypad.hear(packet(b"\5\x80"), 0.0)  # cut short
    assert pad.keys == []
    assert not pad.keypad.is_down


@given(st.randoms(use_true_random=False))
def test_shuffled_lost_and_doubled_packets_of_a_press_are_one_key(source: random.Random) -> None:
    sent = [(160 * step, False) for step in range(1, 6)] + [(960, True)] * 3
    came = [one for one in sent for _ in range(source.choice((0, 1, 2)))] or [(960, True)]
    source.shuffle(came)
    pad = Pad()
    for duration, end in came:
        pad.hear(7, 4000, duration, end=end)
    pad.keys += pad.keypad.expire(KEY_PAUSE)
    assert [key.key for key in pad.keys] == ["7"]


SIPP = Path("/usr/share/sip-tester")


@pytest.mark.skipif(not SIPP.is_dir(), reason="needs the recordings of the Debian package sip-tester")
@pytest.mark.parametrize(
    ("name", "key"), [*((digit, digit) for digit in "0123456789"), ("star", "*"), ("pound", "#")]
)
def test_the_presses_that_sipp_plays(name: str, key: str) -> None:
    pad, now = Pad(), 0.0
    for now, datagram in recorded(SIPP / f"dtmf_2833_{name}.pcap"):
        one = parse(datagram)
        assert one is not None
        pad.keys += pad.keypad.hear(one, now)
    pad.keys += pad.keypad.expire(now + 1)
    assert pad.keys == [Key(key, 280)]


# -- frames ----------------------------------------------------------------------------------------------


def test_packets_of_any_length_become_frames_of_20_ms() -> None:
    framer = Framer()
    audio = bytes(n % 251 for n in range(240 * 4))
    found = [
        frame
        for at in range(0, len(audio), 240)
        for frame in framer.hear(packet(timestamp=at), audio[at : at + 240])
    ]
    assert b"".join(found) == audio
    assert {len(frame) for frame in found} == {FRAME}


def test_what_is_lost_is_silence() -> None:
    framer = Framer()
    a, b = b"a" * FRAME, b"b" * FRAME
    assert framer.hear(packet(timestamp=2**32 - 160), a) == [a]
    assert framer.hear(packet(timestamp=320), b) == [SILENCE * FRAME] * 2 + [b]


def test_what_is_late_or_doubled_is_left_out() -> None:
    framer = Framer()
    a, b = b"a" * FRAME, b"b" * FRAME
    framer.hear(packet(timestamp=0), a)
    assert framer.hear(packet(timestamp=320), b) == [SILENCE * FRAME, b]
    assert framer.hear(packet(timestamp=160), a) == []
    assert framer.hear(packet(timestamp=320), b) == []
    assert framer.hear(packet(timestamp=480), a) == [a]


def test_a_jump_and_a_new_source_are_not_filled() -> None:
    framer = Framer()
    a = b"a" * FRAME
    framer.hear(packet(timestamp=0), a)
    assert framer.hear(packet(timestamp=900_000), a) == [a]
    assert framer.hear(packet(timestamp=10), a) == [a]
    assert framer.hear(packet(timestamp=500, ssrc=2), a) == [a]


def test_time_without_packets_is_filled_once() -> None:
    framer = Framer()
    a = b"a" * FRAME
    assert framer.fill() == []  # before the first packet
    framer.hear(packet(timestamp=0), a)
    assert [framer.fill() for _ in range(50)] == [[SILENCE * FRAME]] * 50
    assert framer.hear(packet(timestamp=160 * 53), a) == [SILENCE * FRAME] * 2 + [a]


# -- on the way out --------------------------------------------------------------------------------------


def test_frames_are_gathered_before_they_leave_again() -> None:
    """Two against jitter; after a pause two again; and of too many the oldest is dropped."""
    feed = Feed()
    feed.add(b"1")
    assert feed.take() == b""
    feed.add(b"2")
    assert [feed.take() for _ in range(3)] == [b"1", b"2", b""]
    feed.add(b"3")
    assert feed.take() == b""
    for n in range(9):
        feed.add(b"%d" % n)
    assert len(feed) == 6
    assert [feed.take() for _ in range(6)] == [b"3", b"4", b"5", b"6", b"7", b"8"]


@pytest.mark.parametrize(("key", "code"), [("0", 0), ("9", 9), ("*", 10), ("#", 11), ("D", 15)])
def test_a_key_is_sent_as_events_that_grow_and_end_three_times(key: str, code: int) -> None:
    """RFC 4733 §2.5.1.3, §2.5.1.4; what we send we would understand."""
    sent = [(*struct.unpack("!BBH", payload), first) for payload, first in pressing(key, 100)]
    growing = [(code, 10, n * 160, n == 1) for n in (1, 2, 3, 4)]
    assert sent == [*growing, *[(code, 0x8A, 800, False)] * 3]
    assert [len(pressing(key, held)) for held in (0, 20, 100, 8000, 60_000)] == [3, 3, 7, 402, 402]
    assert [first for _, first in pressing(key, 0)] == [True, False, False]
