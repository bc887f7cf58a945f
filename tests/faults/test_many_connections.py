"""R21: ten thousand connections that wait, and signed requests that are answered meanwhile."""

from __future__ import annotations

import os
import time

import pytest
from adding import make_campaigns
from crowds import Healthy, allowed, check_healthy, crowds, established, memory, of_worth
from serving import Serve, Server, wait_for

SOURCES = 4
"""Addresses that they come from: one may have a quarter of the places."""

MEMORY = 400.0
"""MB that the api may grow by."""


def crowded(
    server: Server, number: int, *, rate: float, seconds: float, least_asked: int, within: float = 60.0
) -> str:
    """Open so many connections and ask beside them; one line of what was measured."""
    key = server.make_vdn()
    api = server.one("api").pid
    share = allowed(number) // SOURCES
    wanted = [("idle", share, f"127.0.2.{nth}") for nth in range(1, SOURCES + 1)]
    with Healthy(server, key, make_campaigns(server, 500), rate).asking() as healthy:
        while len(healthy.asked) < 10:
            time.sleep(0.05)
        began, before = time.monotonic(), memory(api)
        with crowds(server, wanted, 280) as made:
            for crowd in made:
                crowd.wait_open()
            wait_for(lambda: len(os.listdir(f"/proc/{api}/fd")) >= share * SOURCES, within, "not accepted")
            opened = time.monotonic()
            least, descriptors = share * SOURCES, share * SOURCES
            while time.monotonic() - opened < seconds:
                there = established(server.port)
                least = min(least, sum(there[source] for _, _, source in wanted))
                descriptors = min(descriptors, len(os.listdir(f"/proc/{api}/fd")))
                time.sleep(0.5)
            most = memory(api)
            for crowd in made:
                crowd.wait_end(now=True)
        ended = time.monotonic()
    assert least >= share * SOURCES, f"only {least} were open at some moment"
    assert descriptors >= share * SOURCES, f"the api had {descriptors} of them"
    for crowd in made:
        assert crowd.seen["still_open"] == share
        assert set(crowd.seen["statuses"]) == {"200"}
        assert crowd.seen["statuses"]["200"] >= share
    under = [one for one in healthy.since(opened) if one.due < ended]
    check_healthy(healthy.since(began), least_asked)
    assert most - before <= MEMORY, f"the api grew by {most - before:.0f} MB"
    assert "accepts no connection" not in (said := server.errors.read_text())
    assert "connections refused" not in said
    return (
        f"{least} connections, opened in {opened - began:.1f} s, for {ended - opened:.0f} s; {len(under)}"
        " signed requests beside them, all answered, p99"
        f" {of_worth([one.took for one in under], 0.99):.0f} ms, slowest"
        f" {max(one.took for one in healthy.since(began)):.2f} s; the api grew by {most - before:.0f} MB"
    )


def test_hundreds_of_idle_connections_do_no_harm(serve: Serve) -> None:
    print(crowded(serve(), 500, rate=20, seconds=3, least_asked=20))


@pytest.mark.long
def test_ten_thousand_idle_connections_do_no_harm(serve: Serve) -> None:
    """R21. There is no event stream (SSE) yet, so its readers are left out."""
    print(crowded(serve(), 10_000, rate=200, seconds=30, least_asked=1000))
