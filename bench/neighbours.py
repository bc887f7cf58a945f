"""What bad neighbours cost others: healthy requests beside slow clients, dialing beside hostile receivers.

The server is a whole `outdial serve`; crowds, receivers and carrier are those of the proofs in tests/faults,
which hold the promises. The figures are here: without and with the neighbours, in one run.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path += [str(TESTS / "faults"), str(TESTS)]

from adding import make_campaigns  # noqa: E402
from calling import CarrierLog, incomplete, start_campaign  # noqa: E402
from crowds import Asked, Crowd, Healthy, allowed, check_healthy, crowds, of_worth  # noqa: E402
from farm import Farm, farming  # noqa: E402
from receiver_farm import HOSTILE_KINDS, SILENT_KINDS, seconds_of  # noqa: E402
from serving import Server, new_place, serving, wait_for  # noqa: E402

CROWD = (("head", 2000, "127.0.1.1"), ("body", 2000, "127.0.1.2"), ("reader", 500, "127.0.1.3"))
PER_SECOND = 100
"""Healthy requests a second."""

HELD = 45.0
"""Seconds after which a crowd is given up; the server cuts them off after 10 and 30."""


def slow_clients(pace: float, share: float = 1.0, idle_for: float = 15.0) -> None:
    """A row: the p99 of healthy requests while nobody else is there, and while the crowds come, stay and are
    cut off. `pace`: connections a second of each crowd, 0 for all at once; `share`: of their numbers.
    """
    with new_place() as folder, serving(folder) as server:
        key = server.make_vdn()
        wanted = [(kind, allowed(round(share * number)), source) for kind, number, source in CROWD]
        with Healthy(server, key, make_campaigns(server, 500), PER_SECOND).asking() as healthy:
            while len(healthy.asked) < 2 * PER_SECOND:  # connections and statements are warm
                time.sleep(0.05)
            calm = time.monotonic()
            time.sleep(idle_for)
            began = time.monotonic()
            with crowds(server, wanted, HELD, pace=pace) as made:
                for crowd in made:
                    crowd.wait_open()
                full = time.monotonic()
                for crowd in made:
                    crowd.wait_end()
            ended = time.monotonic()
    idle = [one for one in healthy.since(calm) if one.due < began]
    beside = [one for one in healthy.since(began) if one.due < ended]
    held = [one for one in beside if full <= one.due < began + _first_cut(made)]
    check_healthy(beside, int(ended - began))
    how = f"{pace:g}/s each" if pace else "all at once"
    sizes = ", ".join(f"{crowd.opened['open']} {crowd.kind}" for crowd in made)
    print(
        f"slow clients: {sizes}, opened {how} in {full - began:.1f} s: healthy p99 {_p99(beside):.1f} ms over"
        f" {ended - began:.0f} s, {_p99(held):.1f} while all were held, {_p99(idle):.1f} alone; ratio"
        f" {_p99(beside) / _p99(idle):.1f} (aim 2)",
        flush=True,
    )


def _first_cut(made: Sequence[Crowd]) -> float:
    return min((crowd.seen["after"][0] for crowd in made if crowd.seen["after"]), default=HELD)


def _p99(some: Sequence[Asked]) -> float:
    return of_worth([one.took for one in some], 0.99) if some else float("nan")


def hostile_receivers(per_second: int, seconds: int, rounds: int) -> None:
    """A row: calls a second of a campaign whose receiver is healthy, alone and beside hostile ones."""
    with ExitStack() as stack:
        folder = stack.enter_context(new_place())
        farm = stack.enter_context(
            farming(folder, {"good": "healthy", **{kind: kind for kind in HOSTILE_KINDS}})
        )
        server = stack.enter_context(
            serving(folder, push_allow="127.0.0.0/8", carrier_ring=0.05, carrier_talk=0.1)
        )
        server.make_vdn()
        log = CarrierLog(server.carrier_log)
        _dial(server, log, farm.urls["good"], per_second, 2)  # warm
        alone = [_dial(server, log, farm.urls["good"], per_second, seconds) for _ in range(rounds)]
        beside = []
        for _ in range(rounds):
            _provoke(server, farm)
            beside.append(_dial(server, log, farm.urls["good"], per_second, seconds))
    ratio = statistics.median(one / other for one, other in zip(beside, alone, strict=True))
    print(
        f"hostile receivers: {len(HOSTILE_KINDS)} kinds, results waiting for each: {beside[0]:.2f} calls/s"
        f" beside them, {alone[0]:.2f} alone; ratio {ratio:.3f}, median of {rounds} rounds (aim 0.95)",
        flush=True,
    )


def _provoke(server: Server, farm: Farm) -> None:
    """New results for each hostile receiver; returns when the silent ones hold connections again."""
    before = len(farm.lines("request"))
    for nth, name in enumerate(farm.hostile()):
        start_campaign(server.dsn, 12, farm.urls[name], per_second=12, endings=("01",), first=f"8{nth:02}")

    def met() -> bool:
        return set(SILENT_KINDS) <= {line["receiver"] for line in farm.lines("request")[before:]}

    wait_for(met, 60, "hostile receivers get nothing", every=0.1)


def _dial(server: Server, log: CarrierLog, url: str, per_second: int, seconds: int) -> float:
    """Calls a second of a campaign that is paced so, from its first to its last, by the carrier's log."""
    known = len(log.look().orders)
    start_campaign(server.dsn, per_second * seconds, url, per_second=per_second, endings=("01",), first="900")
    wait_for(lambda: not incomplete(server.dsn), 60 + 4 * seconds, "numbers do not end", every=0.2)
    sent = [seconds_of(order) for order in log.look().orders[known:] if order["called"].startswith("900")]
    assert len(sent) == per_second * seconds, f"{len(sent)} calls"
    return (len(sent) - 1) / (max(sent) - min(sent))


def measure(*, small: bool = False) -> None:
    """Print the rows."""
    if small:
        slow_clients(100, 0.02, 2.0)
        hostile_receivers(20, 3, 1)
        return
    slow_clients(400)
    slow_clients(0)
    hostile_receivers(50, 15, 3)


if __name__ == "__main__":
    measure(small="--small" in sys.argv)
