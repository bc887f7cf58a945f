"""R14 behind nginx and haproxy: the server sees no request that the proxy did not; signatures go through."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from edges import Toy, head, toy
from proxies import PROGRAMS, Proxy, proxied
from test_edge import REFUSED
from test_framing import SEED, STREAMS, mutated
from test_public_names import CAMPAIGNS, make_key, signed_for
from test_served import served, until
from tlspair import blind, pair

from outdial.client import Client

pytestmark = pytest.mark.parametrize("program", ["nginx", "haproxy"])


@pytest.fixture(autouse=True)
def program(request: pytest.FixtureRequest) -> str:
    name = str(request.param) if hasattr(request, "param") else str(request.node.callspec.params["program"])
    if PROGRAMS[name] is None:
        pytest.skip(f"{name} is not installed: make programs")
    return name


@contextlib.contextmanager
def in_front(program: str, folder: Path, kind: str = "edge") -> Iterator[tuple[Toy, Proxy]]:
    made = pair(folder, "dial")
    with toy(folder, kind=kind) as running, proxied(program, folder, running.port, made) as proxy:
        yield running, proxy


def send(proxy: Proxy, stream: bytes) -> bytes:
    """Send a stream and read until it is closed or quiet."""
    raw = b""
    with contextlib.suppress(OSError), proxy.connect() as connection:
        with contextlib.suppress(OSError):
            connection.sendall(stream)
        connection.settimeout(0.5)
        while piece := connection.recv(1 << 16):
            raw += piece
    return raw


def judge(running: Toy, proxy: Proxy, streams: Sequence[bytes]) -> str:
    """What the server saw is what the proxy says it took, or less: never a request more."""
    with ThreadPoolExecutor(16) as senders:
        answers = list(senders.map(lambda stream: send(proxy, stream), streams))
    send(proxy, head("Connection: close", line="GET /last HTTP/1.1"))
    until(lambda: proxy.targets()["/last"])
    time.sleep(0.3)
    seen = [one for one in running.seen() if "cut" not in one]
    for one in seen:
        one["target"] = one["path"] + ("?" + one["query"] if one.get("query") else "")
    taken = proxy.targets()
    counted = {target: sum(one["target"] == target for one in seen) for target in {o["target"] for o in seen}}
    more = {target: (number, taken[target]) for target, number in counted.items() if number > taken[target]}
    line = f"{proxy.program}: {len(streams)} streams, {taken.total()} requests taken, {len(seen)} seen"
    assert not more, f"seed {SEED}: {line}: seen more often than taken: {more}"
    assert len(seen) >= 5, line
    assert sum(b" 4" in answer[:14] or b" 5" in answer[:14] for answer in answers) >= len(streams) // 4, line
    return line


def test_no_request_is_seen_that_the_proxy_did_not_take(program: str, tmp_path: Path) -> None:
    """Every probe of the table and mutated streams; in some a request stands inside a body."""
    chance = random.Random(SEED)
    probes = [data for _, data in REFUSED.values()]
    streams = [*STREAMS, *probes, *(mutated(chance) for _ in range(60))]
    with in_front(program, tmp_path) as (running, proxy):
        print(judge(running, proxy, streams))
        whole = [
            one["path"] for one in running.seen() if one.get("body", "").startswith("GET /inner HTTP/1.1")
        ]
        assert {"/length", "/chunks"} <= set(whole), "the sound ones come through"


@pytest.mark.long
def test_many_mutated_streams_behind_it(program: str, tmp_path: Path) -> None:
    chance = random.Random(SEED + 1)
    with in_front(program, tmp_path) as (running, proxy):
        print(judge(running, proxy, [*STREAMS, *(mutated(chance) for _ in range(1500))]))


def test_a_lenient_server_behind_it_fails(program: str, tmp_path: Path) -> None:
    seen_more = pytest.raises(AssertionError, match="seen more often than taken")
    with in_front(program, tmp_path, "lenient") as (running, proxy), seen_more:
        judge(running, proxy, STREAMS)


def ask(proxy: Proxy, source: str, method: str, path: str, headers: dict[str, str], body: bytes) -> int:
    connection = http.client.HTTPSConnection(
        proxy.address, proxy.port, timeout=10, source_address=(source, 0), context=blind()
    )
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        return connection.getresponse().status
    finally:
        connection.close()


async def test_signed_requests_and_the_address_of_the_client_go_through(
    program: str, tmp_path: Path, database: str
) -> None:
    """Path, query, Host and body as they came; and what a client claims about its address is not believed."""
    secret = os.urandom(32).hex()
    key = await make_key(database, secret)
    names = {"master_key": secret, "public_names": "dial.example.com", "behind_proxy": "127.0.0.1"}
    with served(tmp_path, database, **names) as running:
        with proxied(program, tmp_path, running.port, pair(tmp_path, "dial")) as proxy:
            forged = {"X-Forwarded-For": "10.9.9.9", "X-Forwarded-Proto": "http"}
            for host in ("dial.example.com", "DIAL.example.com:8443"):
                headers = signed_for(host, key) | forged
                assert ask(proxy, "127.0.0.9", "GET", CAMPAIGNS, headers, b"") == 200, host
            client = Client("http://dial.example.com", key.ak, key.secret, 1)
            path = CAMPAIGNS.replace("/campaigns/1", "/campaigns/1/blocklist/query")
            request = client.signed("POST", path, body={"called": "ü \\ % +"})
            headers = {"Host": "dial.example.com"} | dict(request.headers) | forged
            assert ask(proxy, "127.0.0.9", "POST", request.target, headers, request.body or b"") == 200
            request = client.signed("GET", CAMPAIGNS, query={"name": "a b/+%ü", "limit": 1})
            headers = {"Host": "dial.example.com"} | dict(request.headers)
            assert ask(proxy, "127.0.0.9", "GET", request.target, headers, b"") == 200
            assert ask(proxy, "127.0.0.9", "GET", CAMPAIGNS, signed_for("staging.test", key), b"") == 421
        lines = until(lambda: running.lines(event="answered", client="127.0.0.9"))
        assert len(lines) == 4
        assert "10.9.9.9" not in running.log.read_text()
