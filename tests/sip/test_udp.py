"""The range of RTP ports, and the socket filter of Linux."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator

import pytest

from outdial.sip.udp import MediaError, PortRange, attach_filter, detach_filter, dropped

HOST = "127.0.0.1"


def free_range(count: int) -> tuple[int, int]:
    """The first and last of so many even ports that are free now, found by binding them."""
    for first in range(41_000, 60_000, 2 * count):
        held: list[socket.socket] = []
        try:
            for port in range(first, first + 2 * count, 2):
                held.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                held[-1].bind((HOST, port))
        except OSError:
            continue
        else:
            return first, first + 2 * count - 1
        finally:
            for one in held:
                one.close()
    raise AssertionError("no free ports")


@pytest.fixture
def held() -> Iterator[list[socket.socket]]:
    """Sockets that the test closes at its end."""
    sockets: list[socket.socket] = []
    yield sockets
    for one in sockets:
        one.close()


def port_of(one: socket.socket) -> int:
    port: int = one.getsockname()[1]
    return port


def test_ports_are_even_and_given_out_in_turn(held: list[socket.socket]) -> None:
    first, last = free_range(4)
    ports = PortRange(HOST, first - 1, last)
    held += [ports.allocate() for _ in range(4)]
    assert [port_of(one) for one in held] == [first, first + 2, first + 4, first + 6]
    assert all(one.getsockname()[0] == HOST and one.getblocking() is False for one in held)


def test_a_port_that_was_given_back_rests_before_it_is_used_again(held: list[socket.socket]) -> None:
    first, last = free_range(4)
    ports = PortRange(HOST, first, last)
    given = []
    for _ in range(9):
        with ports.allocate() as one:
            given.append(port_of(one) - first)
    assert given == [0, 2, 4, 6, 0, 2, 4, 6, 0]


def test_when_all_are_taken_it_says_so_and_goes_on_when_one_is_free(held: list[socket.socket]) -> None:
    first, last = free_range(3)
    ports = PortRange(HOST, first, last)
    held += [ports.allocate() for _ in range(3)]
    with pytest.raises(MediaError, match=rf"all 3 RTP ports of {HOST}, {first} to {last - 1}, are taken"):
        ports.allocate()
    held[1].close()
    held.append(ports.allocate())
    assert port_of(held[-1]) == first + 2


def test_a_port_of_another_program_is_passed_over(held: list[socket.socket]) -> None:
    first, last = free_range(3)
    held.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    held[0].bind((HOST, first))
    held.append(PortRange(HOST, first, last).allocate())
    assert port_of(held[1]) == first + 2


@pytest.mark.parametrize(("first", "last"), [(5001, 5001), (0, 100), (6000, 5000), (65_000, 70_000)])
def test_a_range_without_a_usable_port_is_refused(first: int, last: int) -> None:
    with pytest.raises(MediaError, match=f"RTP ports {first} to {last}"):
        PortRange(HOST, first, last)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(MediaError, match=r"RTP address 192\.0\.2\.1"):
        PortRange("192.0.2.1", 41_000, 41_010).allocate()


def test_over_ipv6(held: list[socket.socket]) -> None:
    held.append(PortRange("::1", 41_000, 60_000).allocate())
    assert held[0].family == socket.AF_INET6
    assert port_of(held[0]) % 2 == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the socket filter is Linux's")
@pytest.mark.parametrize("host", [HOST, "::1"])
@pytest.mark.parametrize("kinds", [{101}, {96, 101}, {96, 97, 101}])
def test_the_filter_lets_its_payload_types_through_and_the_rest_is_counted(
    host: str, kinds: set[int], held: list[socket.socket]
) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held += [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
    ours, theirs = held
    ours.bind((host, 0))
    ours.setblocking(False)

    def send_all() -> list[int]:
        for kind in (0, 8, 13, *range(95, 103), 127):
            for marker in (0, 128):
                theirs.sendto(struct.pack("!BBHII", 0x80, kind | marker, 1, 2, 3), (host, port_of(ours)))
        theirs.sendto(b"\x80", (host, port_of(ours)))
        found = []
        try:
            while True:
                data = ours.recv(100)
                found.append(data[1] & 127 if len(data) > 1 else -1)
        except BlockingIOError:
            return found

    assert attach_filter(ours, kinds)
    assert sorted(send_all()) == sorted([*kinds, *kinds])
    assert dropped(ours) == 25 - 2 * len(kinds)
    detach_filter(ours)
    assert len(send_all()) == 25
