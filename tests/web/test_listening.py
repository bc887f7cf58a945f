"""The listening socket: addresses that it takes, and errors that name what it does not."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest

from outdial.errors import SettingError
from outdial.web.server import listening_socket


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1", "[::1]"])
def test_a_loopback_address_is_listened_on(host: str) -> None:
    try:
        listener = listening_socket(host, 0)
    except SettingError:
        if ":" in host and not _has_ipv6():
            pytest.skip("no IPv6 on this machine")
        raise
    with listener:
        assert listener.getsockname()[1] > 0
        assert os.get_inheritable(listener.fileno())


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("192.0.2.1", 0, r"cannot listen on 192\.0\.2\.1 port 0: "),
        ("::1%lo", 0, "must be without a zone"),
        ("outdial.test", 0, "address 'outdial.test': must be an IP address or localhost"),
        ("", 0, "must be an IP address or localhost"),
        ("127.0.0.1", 65536, "port 65536: must be 0 to 65535"),
        ("127.0.0.1", -1, "port -1: must be 0 to 65535"),
    ],
)
def test_another_address_is_refused_by_name(host: str, port: int, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        listening_socket(host, port)


def test_a_taken_port_is_named() -> None:
    with listening_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(SettingError, match=rf"127\.0\.0\.1 port {port}: another process listens there"):
            listening_socket("127.0.0.1", port)
