"""Receivers that never answer, never end, lead astray or fail: nobody else waits for them, nothing is lost.

The witnesses are the farm's own log (`receiver_farm.py`), the carrier's log, and the rows of the database.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from calling import CarrierLog, incomplete, outbox, start_campaign
from farm import Farm, delays, farming, percentile
from receiver_farm import HOSTILE_KINDS, SILENT_KINDS, TLS_KINDS, seconds_of
from serving import VDN, Mutate, Serve, Server, wait_for

from outdial.push import PER_RECEIVER, PUSHES
from outdial.receivers import BODY_LIMIT, TIMEOUT

PROMPTLY = 2.0
"""Seconds in which 99 of 100 results are with a healthy receiver after their call's end."""

NUMBERS = 12
"""Of each hostile receiver: more than it may be sent at a time."""

MET = 10
"""Tries at each hostile kind, at least."""

BUFFERS = 64 * 1024
"""Bytes that may lie in the system's buffers between the two processes, sent and not read."""

SLACK = 1.5
"""Seconds that a busy machine adds to a timeout."""

ERRORS = {
    "silent": "timeout after",
    "one_byte": "timeout after",
    "late": "timeout after",
    "endless_failure": "HTTP 500",
    "endless_interim": "endless answer",
    "error": "HTTP 500",
    "gone": "HTTP 410",
    "to_the_metadata": "HTTP 301",
    "to_the_canary": "HTTP 301",
    "reset": "connection reset by peer",
    "expired": "TLS certificate: certificate has expired",
    "self_made": "TLS certificate: self",
}
"""What an operator reads about each kind. The others say 200, and that is all that counts."""


@dataclass(frozen=True)
class Size:
    """How much of everything; `timeout` is the server's."""

    healthy: int
    per_healthy: int
    per_second: int
    each: int
    timeout: float = TIMEOUT


SMALL = Size(healthy=3, per_healthy=60, per_second=10, each=1, timeout=2.0)
WHOLE = Size(healthy=5, per_healthy=400, per_second=10, each=4)


def kinds_of(size: Size, kinds: tuple[str, ...]) -> dict[str, str]:
    """The receivers: so many healthy ones, `each` of every silent kind, one of the others."""
    found = {f"healthy{nth}": "healthy" for nth in range(size.healthy)}
    for kind in kinds:
        for nth in range(size.each if kind in SILENT_KINDS else 1):
            found[f"{kind}{nth}"] = kind
    return found


def stands_up_to(
    serve: Serve, place: Path, size: Size, kinds: tuple[str, ...] = HOSTILE_KINDS, source: Path | None = None
) -> None:
    """The whole proof: hostile receivers beside healthy ones, then their recovery."""
    with farming(place, kinds_of(size, kinds)) as farm:
        server = serve(push_allow="127.0.0.0/8", carrier_ring=0.05, carrier_talk=0.1, source=source)
        # A certificate that no authority gave is trusted only by name.
        server.stop()
        server.environment["SSL_CERT_FILE"] = str(farm.trusted)
        server.start()
        server.make_vdn()
        meets_hostile_ones(server, farm, size)
        judge_tries(farm, size)
        judge_errors(server, farm)
        recovers(server, farm, size)


def meets_hostile_ones(server: Server, farm: Farm, size: Size) -> None:
    """Hostile ones get their results first; then come the healthy ones, which nobody knows yet."""
    for nth, name in enumerate(farm.hostile()):
        start_campaign(
            server.dsn, NUMBERS, farm.urls[name], per_second=NUMBERS, endings=("01",), first=f"8{nth:02}"
        )
    silent = set(farm.named(*SILENT_KINDS))
    if silent:
        wait_for(
            lambda: silent <= {line["receiver"] for line in farm.lines("request")}, 60, "not all are met", 0.1
        )
    began = time.time()
    for nth in range(size.healthy):
        start_campaign(
            server.dsn,
            size.per_healthy,
            farm.urls[f"healthy{nth}"],
            per_second=size.per_second,
            endings=("01",),
            first=f"9{nth:02}",
        )
    wait_for(lambda: not incomplete(server.dsn), 240, "numbers do not end", every=0.2)
    judge_dialing(CarrierLog(server.carrier_log).look(), size, began)
    numbers = size.healthy * size.per_healthy
    wait_for(lambda: len(delays(farm, server.carrier_log)) == numbers, 120, "healthy ones wait", every=0.2)
    found = delays(farm, server.carrier_log)
    p50, p99 = percentile(found, 0.5), percentile(found, 0.99)
    print(f"{numbers} results of healthy ones: p50 {p50:.3f} s, p99 {p99:.3f} s, last {found[-1]:.3f} s")
    assert p99 <= PROMPTLY, f"healthy receivers wait: p99 {p99:.1f} s"
    wait_for(lambda: all_met(farm), 120, lambda: f"not met often: {tries(farm)}", every=0.2)
    failing = [farm.urls[name] for name in farm.hostile() if farm.kinds[name] in ERRORS]
    query = "SELECT count(*) AS n FROM outbox WHERE url = ANY($1) AND pushes = 0"
    wait_for(
        lambda: not server.rows(query, failing)[0]["n"], 240, "some have not been pushed once", every=0.5
    )


def judge_dialing(log: CarrierLog, size: Size, began: float) -> None:
    """Calls of the healthy ones' campaigns leave as planned; the exact figure is a row of `make bench`."""
    sent = [at for order in log.orders if (at := seconds_of(order)) >= began and order["called"][0] == "9"]
    took, planned = max(sent) - began, size.per_healthy / size.per_second
    print(f"{len(sent)} calls in {took:.1f} s, planned {planned:.1f} s")
    assert took <= 2 * planned + 5, "dialing waits for receivers"


def tries(farm: Farm) -> Counter[str]:
    """POSTs that each kind has met, or connections where none comes about."""
    hits = farm.hits()
    met = Counter(line["kind"] for line in farm.lines("request"))
    return met + Counter({kind: hits[kind] for kind in TLS_KINDS})


def all_met(farm: Farm) -> bool:
    met = tries(farm)
    return all(met[farm.kinds[name]] >= MET for name in farm.hostile())


def judge_tries(farm: Farm, size: Size) -> None:
    """Each in its bounds: so many at a time, so long, so much of an answer, and never led astray."""
    most = Counter[str]()
    for line in farm.lines("request"):
        most[line["receiver"]] = max(most[line["receiver"]], line["in_flight"])
    over = farm.lines("over")
    longest = max(line["took"] for line in over)
    waited = [line for line in over if line["kind"] in SILENT_KINDS]
    sent = max(line["sent"] for line in over)
    print(
        f"tries {dict(tries(farm))}; most in flight {most.most_common(1)}; longest {longest:.2f} s,"
        f" {len(waited)} ended by the timeout; most of an answer {sent} bytes; canary {farm.hits()['canary']}"
    )
    assert max(most.values()) <= PER_RECEIVER, "more at a time than a receiver may be sent"
    assert not waited or max(most.values()) == PER_RECEIVER, "never that many: nothing is proved"
    assert longest <= size.timeout + SLACK, "a try goes on after its timeout"
    assert all(line["cut"] for line in waited)
    assert not waited or longest >= size.timeout - 0.5, "no timeout was reached: nothing is proved"
    assert sent <= BODY_LIMIT + BUFFERS, "more of an answer is read than 64 kB"
    endless = [line["sent"] for line in over if line["kind"].startswith("endless")]
    assert not endless or min(endless) > BODY_LIMIT / 2, "no long answer was read: nothing is proved"
    assert farm.hits()["canary"] == 0, "a redirect was followed"


def judge_errors(server: Server, farm: Farm) -> None:
    """Nothing that was not taken has left the outbox, and an operator sees why."""
    listed = undelivered(server)
    for name in farm.hostile():
        of_it = [one for one in listed if one["url"] == farm.urls[name]]
        wanted = ERRORS.get(farm.kinds[name])
        if wanted is None:
            assert not of_it, f"{name} said 200"
            continue
        assert len(of_it) == NUMBERS, f"results missing: {name} has {len(of_it)} of {NUMBERS}"
        assert {one["lastError"].startswith(wanted) for one in of_it} == {True}, of_it[0]["lastError"]


def undelivered(server: Server) -> list[dict[str, str]]:
    """What `outdial results undelivered` says."""
    command = [sys.executable, "-m", "outdial", "results", "undelivered", "--vdn", str(VDN), "--json"]
    command += ["--limit", "100000", "--data", str(server.data)]
    done = subprocess.run(command, env=server.environment, capture_output=True, check=True, timeout=60)
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def recovers(server: Server, farm: Farm, size: Size) -> None:
    """Every result is with its receiver once it is healthy; again at most what a timeout hid."""
    timeouts = sum(line["cut"] for line in farm.lines("over") if line["kind"] in {*SILENT_KINDS, "healthy"})
    farm.recover()
    wait_for(lambda: not outbox_after_ten_minutes(server), 120, "not all is delivered", every=0.5)
    taken = farm.taken()
    placed = {order["attempt"] for order in CarrierLog(server.carrier_log).look().orders}
    at_once = {
        result
        for line in farm.lines("request")
        if line["kind"] in {"byte_of_a_body", "endless_body"}
        for result in line["ids"]
    }
    missing = placed - taken.keys() - at_once
    twice = sum(taken.values()) - len(taken)
    print(f"{len(placed)} calls, missing {len(missing)}, duplicates {twice} of {timeouts} timeouts")
    assert not missing, "results missing"
    assert not taken.keys() - placed
    assert twice <= timeouts
    assert server.rows("SELECT count(*) AS n FROM call_result WHERE delivered_at IS NULL") == [{"n": 0}]


def outbox_after_ten_minutes(server: Server) -> int:
    """Ten minutes go by, and some that have given up are sent again; what is left."""
    server.rows("UPDATE outbox SET due_at = now() WHERE leased_until IS NULL AND pushes > 0")
    server.rows("SELECT pg_notify('outdial_outbox', '')")
    return outbox(server.dsn)


def sooner(mutate: Mutate, *changes: tuple[str, str, str]) -> Path:
    """A copy of src whose timeout is two seconds, so that a run takes not long."""
    return mutate(
        ("receivers.py", f"TIMEOUT: Final = {TIMEOUT}\n", f"TIMEOUT: Final = {SMALL.timeout}\n"), *changes
    )


def test_hostile_receivers_hold_up_nobody(serve: Serve, place: Path, mutate: Mutate) -> None:
    stands_up_to(serve, place, SMALL, source=sooner(mutate))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_farm_of_hostile_receivers(serve: Serve, place: Path) -> None:
    """With the true timeout, and more silent ones than the share of all that are not prompt."""
    assert WHOLE.each * len(SILENT_KINDS) * PER_RECEIVER > 64
    assert PUSHES > 1
    stands_up_to(serve, place, WHOLE)
