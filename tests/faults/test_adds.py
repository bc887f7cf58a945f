"""What was acknowledged is kept, what was not is whole or absent (G1, G2): `kill -9` at any moment.

The witnesses are the journal of the clients, synced before a request is sent, and the rows of the database.
"""

from __future__ import annotations

import random
import signal
import time

import pytest
from adding import (
    ANSWER_WITHIN,
    CUT,
    NO_STORE,
    NOT_SENT,
    OK,
    TOO_SOON,
    Adders,
    Verdict,
    adders,
    totals_grow,
    verdict,
)
from evidence import evidence
from serving import Serve, Server, wait_for

SEED = 20260301
MEASURED = 0.4
"""Seconds that a busy client may add to what it measures."""


def kill_while_adding(
    server: Server, clients: Adders, kills: int, *roles: str, acknowledged: int = 20
) -> list[int]:
    """Kill everything, or the processes of these roles, again and again while the clients add.

    Each life accepts at least so many requests, and ends up to 300 ms later, with a request under way if
    that lasts 5 ms more. Returns how many were under way at each kill.
    """
    chance = random.Random(SEED + kills)
    under_way = []
    with clients.adding():
        for _ in range(kills):
            before = clients.acknowledged()
            wait_for(lambda: clients.acknowledged() >= before + acknowledged, 60, "nothing is accepted")  # noqa: B023
            time.sleep(chance.uniform(0, 0.3))
            wait_for(lambda: clients.open, 60, "no request is under way", every=0.001)
            time.sleep(chance.uniform(0, 0.005))
            wait_for(lambda: clients.open, 60, "no request is under way", every=0.0005)
            under_way.append(len(clients.open))
            if roles:
                for process in server.of(*roles):
                    process.signal(signal.SIGKILL)
            else:
                server.kill(chance)
                server.start(wait=False)
        server.wait_ready()
        before = clients.acknowledged()
        wait_for(lambda: clients.acknowledged() > before, 60, "nothing is accepted after the last kill")
    return under_way


def judged(server: Server, clients: Adders) -> Verdict:
    """The verdict twice: as the crashes left it, and after all that got no answer has been sent again."""
    journal = server.data.with_name("journal.jsonl")
    first = verdict(journal, server)
    print(f"after the faults: {first}")
    assert first.sound, first
    again = clients.send_again()
    found = verdict(journal, server)
    print(f"after {len(again)} were sent again: {found}")
    assert found.sound, found
    assert found.accepted == len(clients.sent), "sent again, and still not accepted"
    assert totals_grow(journal)
    assert set(found.outcomes) <= {OK, NO_STORE, TOO_SOON, CUT, NOT_SENT}, found.outcomes
    return found


def survives_kills(serve: Serve, kills: int, acknowledged: int) -> Verdict:
    server = serve()
    with adders(server) as clients:
        under_way = kill_while_adding(server, clients, kills, acknowledged=acknowledged)
        found = judged(server, clients)
    landed(kills, under_way, found, least={"hits": 0.8 * kills, "accepted": kills * acknowledged})
    assert server.lives == kills + 1
    return found


def landed(kills: int, under_way: list[int], found: Verdict, least: dict[str, float]) -> None:
    """The evidence; `hits`: kills with a request under way; `kept`, `absent`: what got no answer."""
    evidence(
        least,
        seed=SEED,
        kills=kills,
        hits=sum(n > 0 for n in under_way),
        under_way=under_way,
        accepted=found.accepted,
        numbers=found.numbers,
        unanswered=found.kept + found.absent,
        kept=found.kept,
        absent=found.absent,
    )


def test_kill_of_everything_loses_and_repeats_nothing(serve: Serve) -> None:
    found = survives_kills(serve, kills=5, acknowledged=20)
    assert found.kept + found.absent >= 1, "no request was left without an answer: nothing is proved"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_thirty_kills_of_everything(serve: Serve) -> None:
    found = survives_kills(serve, kills=30, acknowledged=50)
    assert found.numbers >= 20_000
    assert found.kept + found.absent >= 0.01 * found.accepted, "too few were left without an answer"
    assert found.kept >= 1, "no request was kept without an answer"
    assert found.absent >= 1, "no request was cut off before it was kept"


def test_kill_of_the_api_alone_repeats_nothing(serve: Serve) -> None:
    """What its statement had stored stays; the same bytes again give the stored answer."""
    server = serve(api_processes=2)
    with adders(server) as clients:
        under_way: list[int] = []
        while len(under_way) < 12:  # a busy machine may take long before a statement, and little in it
            under_way += kill_while_adding(server, clients, 4, "api")
            if verdict(server.data.with_name("journal.jsonl"), server).kept:
                break
        found = judged(server, clients)
    landed(len(under_way), under_way, found, least={"hits": 3, "kept": 1})


def test_all_end_within_a_second_of_the_supervisors_kill(serve: Serve) -> None:
    server = serve(api_processes=2)
    tree = server.tree()
    roles = {process.role for process in tree}
    assert {"supervisor", "carrier", "engine", "push", "api", "postmaster", "backend"} <= roles
    tree[0].signal(signal.SIGKILL)
    took = wait_for(lambda: not any(process.alive() for process in tree), 10, "they live on")
    evidence({"processes": 7}, processes=len(tree), seconds=round(took, 2))
    assert took <= 1.0
    server.bury(tree)
    server.start()


# -- PostgreSQL alone --------------------------------------------------------------------------------------


def through_an_outage(server: Server, *roles: str, frozen: float = 0.0, hits: int = 1) -> Verdict:
    """Kill (or freeze for so many seconds) the processes of these roles under load, and see it come back.

    The server itself is not touched: it works again by itself. `hits` times, each with a request under way:
    PostgreSQL recovers from the end of a backend so fast that once may not be noticed.
    """
    survivors = server.of("supervisor", "api")
    with adders(server) as clients:
        with clients.adding():
            wait_for(lambda: clients.acknowledged() >= 20, 60, "nothing is accepted")
            for _ in range(hits):
                before = clients.acknowledged()
                wait_for(lambda: clients.acknowledged() > before, 60, "it does not work again")  # noqa: B023
                wait_for(lambda: clients.open, 60, "no request is under way", every=0.0005)
                victims = server.of(*roles)
                for victim in victims:
                    victim.signal(signal.SIGSTOP if frozen else signal.SIGKILL)
                time.sleep(frozen or 0.5)
                for victim in victims if frozen else ():
                    victim.signal(signal.SIGCONT)
            before = clients.acknowledged()
            back = wait_for(lambda: clients.acknowledged() >= before + 20, 60, "it does not work again")
        found = judged(server, clients)
    refused_or_cut = found.outcomes[NO_STORE] + found.outcomes[CUT]
    assert found.slowest <= ANSWER_WITHIN + MEASURED
    evidence(
        {"processes": 1, "refused_or_cut": 1},
        hits=hits,
        processes=len(victims),
        accepted=found.accepted,
        refused_or_cut=refused_or_cut,
        slowest=round(found.slowest, 2),
        seconds_to_20_more=round(back, 1),
    )
    assert all(process.alive() for process in survivors)
    assert found.outcomes[NOT_SENT] == 0
    return found


def test_kill_of_every_backend(serve: Serve) -> None:
    through_an_outage(serve(), "backend", hits=5)
