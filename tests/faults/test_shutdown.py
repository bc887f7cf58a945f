"""The end under load: SIGTERM, SIGINT, SIGHUP, to the whole or to one role, while it adds, calls and starts.

The witnesses are the log of the carrier or of the SIP far end, the receiver's and the clients' journals, and
the rows of the database.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from adding import Adders, adders
from adding import verdict as verdict_on_adds
from calling import SECRET, SETTINGS, CarrierLog, Receiver, all_ended, launched, receiving, start_campaign
from receiver_farm import seconds_of
from serving import Process, Serve, Server, wait_for
from trunks import connect, far_end, over_sip

from ports import free_port

SEED = 20260304
IN_FLIGHT = 10
"""Calls that are under way when the end is asked for, at least."""

AFTER = 1.0
"""Seconds after SIGTERM in which the last call leaves."""

T1 = 0.5
"""Seconds after which an INVITE that was lost on its way comes again (RFC 3261 §17.1.1.2)."""

END_WITHIN = 30.0
ROUNDS = 6
"""Starts that are interrupted, each in a sixth of the time that a start takes."""

NUMBERS = 160
"""Of each round; a call a fortieth of a second."""


@contextmanager
def under_load(serve: Serve, *, sip: bool, source: Path | None = None) -> Iterator[tuple[Server, Load]]:
    """A server with clients that add and with numbers to call, over the simulated carrier or over SIP."""
    way = over_sip() if sip else SETTINGS
    server = serve(source=source, **way, api_processes=2)
    port, folder = free_port(), server.data.parent
    with (
        receiving(folder) as receiver,
        adders(server, secret=SECRET) as clients,
        far_end(folder, port, ring=0.3, talk=1.5) as far,
    ):
        if sip:
            connect(server.dsn, port)
        yield server, Load(server, receiver, clients, far if sip else CarrierLog(server.carrier_log))


class Load:
    """What a server does meanwhile, and what must be true after it."""

    def __init__(self, server: Server, receiver: Receiver, clients: Adders, log: CarrierLog) -> None:
        self.server, self.receiver, self.clients, self.log = server, receiver, clients, log
        self._campaigns = 0

    def more_numbers(self, numbers: int = NUMBERS) -> None:
        """A campaign whose numbers no other has."""
        self._campaigns += 1
        first = f"7{self._campaigns:02}"
        start_campaign(self.server.dsn, numbers, self.receiver.url, per_second=40, first=first)

    def in_full_swing(self) -> int:
        """Wait until calls and requests are under way; how many calls there are."""
        launched(self.log)
        acknowledged = self.clients.acknowledged()
        wait_for(lambda: len(self.log.look().alive) >= IN_FLIGHT, 60, "too few calls are under way")
        wait_for(lambda: self.clients.acknowledged() >= acknowledged + 10, 60, "nothing is added")
        wait_for(lambda: self.clients.open, 60, "no request is under way", every=0.001)
        return len(self.log.look().alive)

    def judge(self) -> None:
        """What was acknowledged is there, every attempt has ended with one call, and its result is there."""
        adds = verdict_on_adds(self.server.data.with_name("journal.jsonl"), self.server)
        print(adds)
        assert adds.sound, adds
        assert all_ended(self.server.dsn, self.log, self.receiver).unknown == 0, "calls were abandoned"


def gone(tree: list[Process]) -> None:
    wait_for(lambda: not any(one.alive() for one in tree), 5, "something of the tree was left running")


def stops(serve: Serve, rounds: int, *, sip: bool = False, source: Path | None = None) -> None:
    """SIGTERM to the supervisor, again and again; each time the next start goes on."""
    lasted: list[float] = []
    with under_load(serve, sip=sip, source=source) as (server, load):
        for nth in range(rounds):
            load.more_numbers()
            with load.clients.adding():
                under_way = load.in_full_swing()
                tree = server.tree()
                began, signalled = time.monotonic(), time.time()
                server.terminate()
                refusing = wait_for(lambda: not server.listens(), 30, "it still takes connections")
                status = server.wait_end(within=40)
                took = time.monotonic() - began
            gone(tree)
            last = max(map(seconds_of, load.log.look().orders)) - signalled
            print(
                f"round {nth + 1}: {under_way} calls under way; refuses after {refusing:.2f} s; exit {status}"
                f" after {took:.1f} s; last call {last:.2f} s after SIGTERM"
            )
            assert under_way >= IN_FLIGHT
            assert last <= AFTER + (T1 if sip else 0), "calls leave after SIGTERM"
            assert (status, took <= END_WITHIN) == (0, True)
            assert refusing <= 1.0, "it goes on taking connections that nobody serves"
            lasted.append(took)
            server.start()
        load.judge()
        adds = verdict_on_adds(server.data.with_name("journal.jsonl"), server)
        assert adds.kept == 0, "it took a request and did not answer it"
    assert "process killed" not in server.errors.read_text()
    assert min(lasted) > 1.0, "it had ended before it could go on taking connections: nothing is proved"


def test_sigterm_under_load(serve: Serve) -> None:
    """It takes nothing more, answers what it took, lets calls end, exits with 0; the next start goes on."""
    stops(serve, 1)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("sip", [False, True], ids=["simulated", "sip"])
def test_sigterm_again_and_again(serve: Serve, sip: bool) -> None:
    stops(serve, 5, sip=sip)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_sigterm_of_one_role_alone(serve: Serve) -> None:
    """The others go on, it is started again, and what it had under way ends."""
    with under_load(serve, sip=True) as (server, load):
        for role in ("engine", "push", "api"):
            load.more_numbers(80)
            with load.clients.adding():
                under_way = load.in_full_swing()
                before = {one.role: one.pid for one in server.tree()}
                victim = server.of(role)[0]
                victim.signal(signal.SIGTERM)
                took = wait_for(lambda: not victim.alive(), END_WITHIN, f"{role} does not end")  # noqa: B023
                count = 2 if role == "api" else 1
                wait_for(lambda: len(server.of(role)) == count, 30, f"no new {role}")  # noqa: B023
            after = {one.role: one.pid for one in server.tree()}
            print(f"{role}: {under_way} calls under way; ended after {took:.1f} s")
            others = set(before) - {role, "backend", "other"}
            assert {one: before[one] for one in others} == {one: after[one] for one in others}
        load.judge()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_second_interrupt_under_load(serve: Serve) -> None:
    """It does not wait for calls; they are found again, or theirs is the one unknown end."""
    with under_load(serve, sip=False) as (server, load):
        load.more_numbers()
        with load.clients.adding():
            load.in_full_swing()
            tree = server.tree()
            os.kill(server.pid, signal.SIGINT)
            wait_for(lambda: "engine stopping" in server.said(), 10, "it does not begin to stop")
            under_way = len(load.log.look().alive)
            began = time.monotonic()
            os.kill(server.pid, signal.SIGINT)
            server.wait_end(within=20)
            took = time.monotonic() - began
        gone(tree)
        server.start()
        adds = verdict_on_adds(server.data.with_name("journal.jsonl"), server)
        found = all_ended(server.dsn, load.log, load.receiver)
    print(f"{under_way} calls under way; ended {took:.2f} s after the second SIGINT; {adds}")
    assert under_way >= 1
    assert took <= 10
    assert adds.sound
    assert found.unknown <= under_way


@pytest.mark.long
@pytest.mark.timeout(600)
def test_sigterm_while_it_starts(serve: Serve) -> None:
    """Whatever it was about to start, nothing is left, and the next start is whole."""
    server = serve(**SETTINGS)
    assert server.stop() == 0
    began = time.monotonic()
    server.start()
    whole = time.monotonic() - began
    assert server.stop() == 0
    chance, ends = random.Random(SEED), []
    for nth in range(ROUNDS):
        server.start(wait=False)
        time.sleep((nth + chance.random()) / ROUNDS * whole)
        tree = server.tree()
        server.terminate()
        began = time.monotonic()
        ends.append((server.wait_end(within=40), round(time.monotonic() - began, 1), len(tree)))
        gone([*tree, *server._known.values()])
    print(f"seed {SEED}: (exit status, seconds, processes) {ends}")
    assert all(took <= END_WITHIN for _, took, _ in ends)
    assert {status for status, _, _ in ends} <= {0, -signal.SIGTERM}
    assert sum(n > 1 for _, _, n in ends) >= 3, "nothing had been started: nothing is proved"
    server.start()
    assert server.stop() == 0


@pytest.mark.long
@pytest.mark.timeout(600)
def test_sighup_under_load(serve: Serve) -> None:
    """Nothing to reload is no reason to end: every process lives on, and so does every call."""
    with under_load(serve, sip=False) as (server, load):
        load.more_numbers()
        with load.clients.adding():
            load.in_full_swing()
            before = {one.pid for one in server.tree() if one.role not in {"backend", "other"}}
            for _ in range(20):
                os.kill(server.pid, signal.SIGHUP)
                time.sleep(0.05)
        wait_for(lambda: server.said().count("nothing to reload") >= 1, 10, "it did not hear")
        load.judge()
        assert before == {one.pid for one in server.tree() if one.role not in {"backend", "other"}}
        assert len(before) >= 6
