"""The proofs about connections are seen red with what they prove taken out of a copy of src."""

from __future__ import annotations

import http.client

import pytest
from crowds import Crowd
from serving import VDN, Mutate, Serve, Server
from test_many_connections import crowded
from test_slow_clients import check_ended, surrounded

from outdial.client import Client

pytestmark = [pytest.mark.guard, pytest.mark.long]

NO_HEAD_DEADLINE = ("web/limits.py", "    head: float = 10.0\n", "    head: float = 1e6\n")
NO_BODY_DEADLINE = ("web/limits.py", "    body: float = 30.0\n", "    body: float = 1e6\n")
NO_WRITE_BOUND = (
    "web/edge.py",
    "self._write_timer = self.loop.call_later(self._limits.write, self._reset)",
    "pass",
)
NO_KERNEL_BOUND = ("web/accepting.py", "(self._write + _LATER) * 1000", "0")
EVERY_BYTE = (
    "web/edge.py",
    "        if self._begun:\n            self._began = self.loop.time()\n",
    "        self._began = self._accepted = self.loop.time()\n",
)
NO_RESET = ("web/edge.py", '        its = self.transport.get_extra_info("socket")\n', "        its = None\n")


def red(crowd: Crowd) -> None:
    """The proof of this crowd fails, for the right reason."""
    with pytest.raises(AssertionError, match=f"{crowd.kind}: 30 are never cut off"):
        check_ended(crowd)


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        pytest.param(
            (NO_HEAD_DEADLINE, NO_BODY_DEADLINE, NO_WRITE_BOUND, NO_KERNEL_BOUND),
            (30, 30, 30),
            id="no bounds",
        ),
        pytest.param((EVERY_BYTE,), (30, 30, 0), id="every byte restarts the deadline"),
        pytest.param((NO_RESET,), (0, 0, 30), id="the kernel goes on offering"),
    ],
)
def test_a_missing_bound_is_seen(
    serve: Serve, mutate: Mutate, changes: tuple[tuple[str, str, str], ...], numbers: tuple[int, int, int]
) -> None:
    surrounded(serve(source=mutate(*changes)), *numbers, idle_for=1.0, rate=5, check=red)


def test_idle_connections_that_find_no_place_are_seen(serve: Serve, mutate: Mutate) -> None:
    source = mutate(("web/accepting.py", "MOST = 16_384\n", "MOST = 400\n"))
    with pytest.raises(AssertionError, match=r"not accepted|were open"):
        crowded(serve(source=source), 500, rate=5, seconds=3, least_asked=1, within=5.0)


def status_for(server: Server, host: str) -> int:
    """Of a request that was signed for this host."""
    key = server.make_vdn()
    request = Client(f"http://{host}", key.ak, key.secret, VDN).signed(
        "GET", f"/rest/isales/v1/openapi/campaigns/{VDN}"
    )
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    line.request("GET", request.target, headers={"Host": host, **dict(request.headers)})
    status = line.getresponse().status
    line.close()
    return status


def test_a_host_that_is_not_checked_is_seen(serve: Serve, mutate: Mutate) -> None:
    source = mutate(("compose.py", "allowed_hosts=settings.allowed_hosts()", "allowed_hosts=None"))
    assert status_for(serve(source=source, public_names="dial.test"), "staging.test") == 200
