"""How fast a word of the operator holds over SIP (G7), and that no trunk's refusal gets around it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from calling import SECRET, CarrierLog, launched, receiving, rows, start_campaign
from engines import engines
from evidence import evidence
from serving import VDN, Serve, Server, clean_environment, make_vdn, wait_for
from test_sip_calls import ordered_after, taken_over
from trunks import ENDINGS, LATE_CHALLENGE, LATE_REFUSAL, UNHEARD, connect, far_end, over_sip

from outdial.client import BlockingClient
from outdial.store.postgres import utc_now
from outdial.store.sealing import create_master_key, load_master_key
from ports import free_port

PAUSED_WITHIN = timedelta(seconds=1)
"""G7: after the answer no INVITE leaves later."""

FOLLOWS_WITHIN = timedelta(seconds=1.5)
"""A switch looks at trunks and destinations every second, and a look takes a moment."""

ALL_NUMBERS = 200_000
"""As many as a campaign may have."""

FEW = 10


@contextmanager
def dialing(
    serve: Serve, numbers: int, source: Path | None = None
) -> Iterator[tuple[Server, CarrierLog, BlockingClient, int]]:
    """A server with a campaign of so many numbers that dials, each call at a moment of its own; its id."""
    far_port = free_port()
    server = serve(source=source, **over_sip())
    key = server.make_vdn()
    with (
        far_end(server.data.parent, far_port, ring=0.3, talk=1.0) as log,
        BlockingClient(server.url, key.ak, key.secret, VDN) as client,
    ):
        connect(server.dsn, far_port)
        campaign = start_campaign(server.dsn, numbers, "", per_second=200, endings=ENDINGS)
        server.rows("UPDATE campaign SET max_cps = 40")
        launched(log)
        yield server, log, client, campaign


def none_after(log: CarrierLog, said: datetime, bound: timedelta) -> None:
    """No call left later than `bound` after the word; what comes late has time to come."""
    time.sleep(bound.total_seconds() + 1.5)
    late = ordered_after(log, said + bound)
    last = max(datetime.fromisoformat(order["at"]) for order in log.orders)
    evidence(
        {"calls_before": 1},
        calls_before=len(log.orders) - len(late),
        calls_late=len(late),
        last_after=round((last - said).total_seconds(), 3),
    )
    assert not late, f"{len(late)} calls after the bound"


# -- a pause -----------------------------------------------------------------------------------------------


def stops_at_a_pause(serve: Serve, pauses: int, source: Path | None = None) -> None:
    with dialing(serve, ALL_NUMBERS, source) as (_, log, client, campaign):
        for nth in range(pauses):
            launched(log)
            time.sleep(0.13 * (nth % 8))
            client.pause(campaign)
            none_after(log, utc_now(), PAUSED_WITHIN)
            client.resume(campaign)


def test_a_campaign_of_200_000_numbers_stops_at_a_pause(serve: Serve) -> None:
    stops_at_a_pause(serve, 3)


@pytest.mark.long
def test_many_pauses_of_a_campaign_of_200_000_numbers(serve: Serve) -> None:
    stops_at_a_pause(serve, 20)


# -- destinations and trunks -------------------------------------------------------------------------------


def command(server: Server, *arguments: str) -> datetime:
    """An administration command; the moment at which it was done."""
    environment = clean_environment() | {"OUTDIAL_DATABASE": server.dsn}
    subprocess.run([sys.executable, "-m", "outdial", *arguments], env=environment, check=True, timeout=60)
    return utc_now()


def stops_at_a_denial(serve: Serve, source: Path | None = None) -> None:
    with dialing(serve, 2000, source) as (server, log, _, _):
        none_after(log, command(server, "destination", "deny", "--vdn", "1", "any"), FOLLOWS_WITHIN)
        waiting = server.rows("SELECT count(*) AS n FROM contact WHERE state = 'ready'")[0]["n"]
        assert waiting == 2000 - log.placed
        command(server, "destination", "allow", "--vdn", "1", "7")
        launched(log)


def test_a_denied_destination_is_not_called(serve: Serve) -> None:
    """The numbers wait: they are called once it is allowed again."""
    stops_at_a_denial(serve)


def stops_at_a_removal(serve: Serve, source: Path | None = None) -> None:
    with dialing(serve, 2000, source) as (server, log, _, _):
        none_after(log, command(server, "trunk", "remove", "far1"), FOLLOWS_WITHIN)
        wait_for(lambda: not log.look().alive, 10, "calls of the trunk do not end")
        query = "SELECT count(*) AS n FROM attempt WHERE ended_at IS NULL"
        wait_for(lambda: not server.rows(query)[0]["n"], 10, "attempts do not end", every=0.1)
        lost = "SELECT count(*) AS n FROM attempt WHERE disposition = 'UNKNOWN'"
        assert server.rows(lost)[0]["n"] == 0


def test_a_trunk_that_is_removed_takes_no_call(serve: Serve) -> None:
    """Calls that run go on to their end."""
    stops_at_a_removal(serve)


# -- a trunk that refuses late -----------------------------------------------------------------------------


@contextmanager
def about_to_fail_over(
    serve: Serve, source: Path | None = None
) -> Iterator[tuple[Server, CarrierLog, CarrierLog]]:
    """A few calls that the first trunk refuses in 3 s, and the logs of both far ends."""
    ports = free_port(), free_port()
    server = serve(source=source, **over_sip())
    server.make_vdn(secret=SECRET)
    folder = server.data.parent
    with far_end(folder, ports[0], late=3.0) as first, far_end(folder, ports[1], late=1.0) as second:
        connect(server.dsn, *ports)
        start_campaign(server.dsn, FEW, "", per_second=FEW, endings=LATE_REFUSAL, rings=60)
        wait_for(lambda: first.look().placed == FEW, 30, "nothing is called")
        yield server, first, second


def refused(first: CarrierLog) -> None:
    """Wait until the first trunk has refused all, and for what may come of it."""
    wait_for(lambda: not first.look().alive, 30, "nothing is refused")
    time.sleep(1.0)
    evidence({"refused": FEW}, refused=len(first.ended))


def test_another_trunk_takes_what_one_refuses(serve: Serve) -> None:
    """Without it the proofs below prove nothing."""
    with about_to_fail_over(serve) as (_, _, second):
        wait_for(lambda: second.look().placed == FEW, 30, "no other trunk is tried")
        assert not second.repeated()


def no_failover_after_a_pause(serve: Serve, source: Path | None = None) -> None:
    with about_to_fail_over(serve, source) as (server, first, second):
        server.rows("UPDATE campaign SET state = 'suspended'")
        paused = utc_now()
        refused(first)
        assert not ordered_after(second, paused + PAUSED_WITHIN), "calls after a pause"


def test_no_other_trunk_is_tried_after_a_pause(serve: Serve) -> None:
    no_failover_after_a_pause(serve)


def no_failover_without_the_database(serve: Serve, source: Path | None = None) -> None:
    with about_to_fail_over(serve, source) as (server, first, second):
        victims = server.of("postmaster", "backend")
        for victim in victims:
            victim.signal(signal.SIGSTOP)
        refused(first)
        time.sleep(6.0)  # longer than a request to the store may take
        placed = second.look().placed
        for victim in victims:
            victim.signal(signal.SIGCONT)
        assert not placed, "calls without the database"
        query = "SELECT count(*) AS n FROM contact WHERE state <> 'done'"
        wait_for(lambda: not server.rows(query)[0]["n"], 30, "numbers do not end", every=0.1)


def test_no_other_trunk_is_tried_without_the_database(serve: Serve) -> None:
    no_failover_without_the_database(serve)


@contextmanager
def thawed_too_late(
    dsn: str, place: Path, endings: Sequence[str], source: Path | None = None, **times: float
) -> Iterator[tuple[CarrierLog, CarrierLog]]:
    """An engine is frozen with a few calls, overtaken, and thawed when their far end has forgotten them.

    The logs of its two trunks, once it has ended.
    """
    create_master_key(place / "data")
    make_vdn(dsn, place / "data", SECRET)
    ports = free_port(), free_port()
    connect(dsn, *ports, key=load_master_key(place / "data", {}), username="outdial", password="secret")
    with (
        receiving(place) as receiver,
        far_end(place, ports[0], give_up=2.0, **times) as first,
        far_end(place, ports[1]) as second,
        engines(dsn, place, source=source, sip=True) as around,
    ):
        frozen = around.engine()
        start_campaign(dsn, FEW, receiver.url, per_second=FEW, endings=endings, rings=60)
        wait_for(lambda: first.look().placed == FEW, 30, "nothing is called", every=0.001)
        frozen.freeze()
        taken_over(around, frozen)
        refused(first)
        time.sleep(4.0)  # given up and forgotten
        frozen.thaw()
        wait_for(frozen.ended, 10, "the overtaken engine goes on")
        time.sleep(0.5)
        yield first.look(), second.look()


def no_call_of_an_overtaken_engine(dsn: str, place: Path, source: Path | None = None) -> None:
    """Its calls are refused while it is frozen: neither trunk hears of them again."""
    with thawed_too_late(dsn, place, LATE_REFUSAL, source, late=1.5) as (first, second):
        assert not first.repeated(), "an INVITE is sent again"
        assert not second.placed, "calls of an overtaken engine"
        assert [row["n"] for row in rows(dsn, "SELECT count(*) AS n FROM attempt")] == [FEW]


def no_invite_of_an_overtaken_engine(dsn: str, place: Path, source: Path | None = None) -> None:
    """Its INVITEs were never answered, and are due again: timer A (RFC 3261 §17.1.1.2) does not send them."""
    with thawed_too_late(dsn, place, UNHEARD, source, late=3.0) as (first, second):
        assert not first.repeated(), "an INVITE is sent again"
        assert not second.placed, "calls of an overtaken engine"


def no_second_invite_of_an_overtaken_engine(dsn: str, place: Path, source: Path | None = None) -> None:
    """The far end asked for credentials while it was frozen: it does not call again with them."""
    with thawed_too_late(dsn, place, LATE_CHALLENGE, source, late=1.5) as (first, second):
        assert not first.repeated(), "an INVITE with credentials is sent"
        assert not second.placed, "calls of an overtaken engine"


def test_an_overtaken_engine_shows_no_credentials(database: str, place: Path) -> None:
    no_second_invite_of_an_overtaken_engine(database, place)


def test_an_overtaken_engine_repeats_no_invite(database: str, place: Path) -> None:
    no_invite_of_an_overtaken_engine(database, place)


def test_an_overtaken_engine_calls_nobody_though_its_calls_were_refused(database: str, place: Path) -> None:
    no_call_of_an_overtaken_engine(database, place)
