"""R20: clients that trickle their head or body, or never read; healthy ones go on, and memory is bounded."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from adding import make_campaigns
from crowds import Crowd, Healthy, allowed, check_healthy, crowds, established, memory, of_worth
from serving import Serve, Server

HEAD, BODY, READER = "127.0.1.1", "127.0.1.2", "127.0.1.3"
HEAD_WITHIN, BODY_WITHIN, READER_WITHIN = 15.0, 30.0, 30.0
SLACK = 4.0
"""Seconds: of a busy machine, and between the refusal and the end of the stream."""

IDLE = 15.0
"""Seconds after which a connection without a request is closed."""

MEMORY = 400.0
"""MB that the api may grow by: a generous bound."""


def check_ended(crowd: Crowd) -> None:
    """All are closed, by the deadline and not before it."""
    within = {"head": HEAD_WITHIN, "body": BODY_WITHIN, "reader": READER_WITHIN}[crowd.kind]
    assert crowd.seen["still_open"] == 0, f"{crowd.kind}: {crowd.seen['still_open']} are never cut off"
    first, last = crowd.seen["after"][0], crowd.seen["after"][-1]
    earliest, latest = (10.0, within) if crowd.kind == "head" else (within, within + SLACK)
    assert last <= latest, f"{crowd.kind}: cut off only after {last:.1f} s"
    if crowd.kind == "reader":  # one whose answers all found room in the kernel is idle for us
        earliest = IDLE
    assert first >= earliest - 0.5, f"{crowd.kind}: cut off after {first:.1f} s already"
    if crowd.kind != "reader":
        assert crowd.seen["statuses"] == {"408": crowd.opened["open"]}


def surrounded(
    server: Server,
    heads: int,
    bodies: int,
    readers: int,
    *,
    idle_for: float,
    rate: float,
    check: Callable[[Crowd], None] = check_ended,
) -> str:
    """Let them all come at once and wait for their ends; one line of what was measured."""
    key = server.make_vdn()
    api = server.one("api").pid
    wanted = [("head", heads, HEAD), ("body", bodies, BODY), ("reader", readers, READER)]
    wanted = [(kind, allowed(number), source) for kind, number, source in wanted if number]
    with Healthy(server, key, make_campaigns(server, 200), rate).asking() as healthy:
        while len(healthy.asked) < 10:  # connections and statements are warm
            time.sleep(0.05)
        calm = time.monotonic()
        time.sleep(idle_for)
        began, before = time.monotonic(), memory(api)
        with crowds(server, wanted, BODY_WITHIN + 2 * SLACK) as made:
            there, at_5_s, most = watched(server, api, made, began)
        ended = time.monotonic()
    baseline = [one for one in healthy.since(calm) if one.due < began]
    under = [one for one in healthy.since(began) if one.due < ended]
    check_healthy(baseline, int(idle_for))
    check_healthy(under, int(2 * (ended - began)))
    for kind, number, source in wanted:
        assert there[source] >= 0.95 * number, f"{kind}: never more than {there[source]} of {number} open"
    for crowd in made:
        check(crowd)
    assert most - before <= MEMORY, f"the api grew by {most - before:.0f} MB"
    p99, p99_before = (of_worth([one.took for one in some], 0.99) for some in (under, baseline))
    times = [(one.kind, one.seen["after"]) for one in made if one.seen["after"]]
    ends = ", ".join(f"{kind} {after[0]:.1f} to {after[-1]:.1f} s" for kind, after in times)
    return (
        f"open at t = 5 s: {dict(at_5_s)}, at most {dict(there)}; closed after: {ends}; healthy {len(under)}"
        f" of {len(under)} answered, p99 {p99:.0f} ms, idle {p99_before:.0f} ms, ratio"
        f" {p99 / p99_before:.2f}; the api grew by {most - before:.0f} MB"
    )


def watched(
    server: Server, api: int, made: Sequence[Crowd], began: float
) -> tuple[Counter[str], Counter[str], float]:
    """Until all ended: the most that was open by origin, what was open 5 s after the start, the memory."""
    there: Counter[str] = Counter()
    at_5_s: Counter[str] = Counter()
    most = 0.0
    waits = [threading.Thread(target=lambda one=one: (one.wait_open(), one.wait_end())) for one in made]
    for thread in waits:
        thread.start()
    while any(thread.is_alive() for thread in waits):
        now = established(server.port)
        there |= now
        if not at_5_s and time.monotonic() - began >= 5:
            at_5_s = now
        most = max(most, memory(api))
        time.sleep(0.25)
    return there, at_5_s, most


@pytest.mark.timeout(120)
def test_slow_clients_are_cut_off_and_healthy_ones_served(serve: Serve) -> None:
    """The deadlines as they are delivered, side by side."""
    print(surrounded(serve(), 80, 80, 40, idle_for=2.0, rate=20))


@pytest.mark.long
def test_thousands_of_slow_clients(serve: Serve) -> None:
    """R20: 2,000 heads, 2,000 bodies, 500 that do not read."""
    print(surrounded(serve(), 2000, 2000, 500, idle_for=10.0, rate=50))
