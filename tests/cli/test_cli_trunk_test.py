"""`outdial trunk test`: what a trunk says to OPTIONS, from a real UDP peer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from scripted import Run, error_of

from outdial.sip.message import Request, parse, response_to


@contextmanager
def peer(status: int) -> Iterator[int]:
    """Answers one OPTIONS; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(20)

        def answer() -> None:
            data, address = sock.recvfrom(65535)
            request = parse(data)
            assert isinstance(request, Request)
            assert request.method == "OPTIONS"
            sock.sendto(response_to(request, status, "Word", to_tag="t").to_bytes(), address)

        thread = threading.Thread(target=answer)
        thread.start()
        yield int(sock.getsockname()[1])
        thread.join(20)


def add(run: Run, database: str, port: int) -> None:
    run("trunk", "add", "one", "--host", "127.0.0.1", "--port", str(port), "--database", database)


def test_a_trunk_that_answers(run: Run, database: str) -> None:
    """The status and the place are said."""
    with peer(200) as port:
        add(run, database, port)
        said = run("trunk", "test", "one", "--database", database)
    assert said.code == 0
    assert said.out.startswith(f"trunk one answers 200 at udp:127.0.0.1 port {port} after ")


def test_a_trunk_that_is_silent(run: Run, database: str) -> None:
    """Refused, with the place."""
    add(run, database, 9)
    said = run("trunk", "test", "one", "--database", database)
    assert said.code != 0
    assert "does not answer at udp:127.0.0.1 port 9" in error_of(said)


def test_a_trunk_whose_name_is_unknown(run: Run, database: str) -> None:
    """A name without an address, and a trunk that is not there."""
    run("trunk", "add", "one", "--host", "no-such-host.invalid", "--database", database)
    assert "is not reached" in error_of(run("trunk", "test", "one", "--database", database))
    assert "there is no trunk two" in error_of(run("trunk", "test", "two", "--database", database))
