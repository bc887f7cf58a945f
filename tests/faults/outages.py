"""Outages of the database while clients add and calls leave, and what the witnesses say of them."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from adding import ANSWER_WITHIN, CUT, NO_STORE, NOT_SENT, Adders, Verdict, adders
from calling import SECRET, CarrierLog, Receiver, all_ended, launched, receiving, start_campaign
from calling import Verdict as Calls
from clusters import Cluster
from serving import LOST, Mutate, Process, Server, ask, title_of, wait_for
from test_adds import MEASURED, judged
from test_calls import leases_run_out
from trunks import call_no_more

BACK_WITHIN = 5.0
"""Seconds from the database's return to the first add that is accepted and the first call that leaves."""

STILL_SENDS = timedelta(seconds=1.0)
"""How long after its claim a call may leave: the last claim may have been made just before the outage."""

CAMPAIGNS = 64
PER_SECOND = 20


class Target(Protocol):
    """A PostgreSQL that things are done to."""

    dsn: str

    def tree(self) -> list[Process]:
        """Its processes, the postmaster first."""

    def end(self, how: signal.Signals) -> None:
        """Signal the postmaster; all of it has ended on return."""

    def revive(self) -> datetime:
        """Start it again, if nobody else does; the moment from which on it may work."""


class Embedded:
    """The one that a server runs: the server starts it again."""

    def __init__(self, server: Server) -> None:
        self.dsn = server.dsn
        self._server = server

    def tree(self) -> list[Process]:
        return [self._server.one("postmaster"), *self._server.of("backend")]

    def end(self, how: signal.Signals) -> None:
        tree = self.tree()
        tree[0].signal(how)
        wait_for(lambda: not tree[0].alive(), 10, "it does not end")

    def revive(self) -> datetime:
        """The server does, at once."""
        return datetime.now(UTC)


class Foreign:
    """One given by a DSN: it is away for as long as the test likes."""

    def __init__(self, cluster: Cluster, away: Sequence[float] = (0.0,)) -> None:
        """`away`: seconds that it is away after each end, in turn."""
        self.dsn = cluster.dsn
        self._cluster = cluster
        self._away = list(away)

    def tree(self) -> list[Process]:
        return self._cluster.tree()

    def end(self, how: signal.Signals) -> None:
        self._cluster.signal(how)

    def revive(self) -> datetime:
        self._away.append(self._away.pop(0))
        time.sleep(self._away[-1])
        started = datetime.now(UTC)
        self._cluster.start()
        return started


@dataclass
class Trial:
    """Clients that add to a server, and a campaign that it calls for, while its database fails."""

    server: Server
    clients: Adders
    receiver: Receiver
    log: CarrierLog
    hit: int = 0
    """Strikes that met a request under way."""
    back: list[float] = field(default_factory=list)
    """Seconds from each return of the database to the first add that was accepted; calls likewise."""
    called: list[float] = field(default_factory=list)
    away: list[tuple[datetime, datetime]] = field(default_factory=list)

    def ready(self, *, calls: bool = True) -> None:
        """Wait until adds are accepted, calls leave, and a request is under way."""
        before = self.clients.acknowledged()
        if calls:
            launched(self.log)
        wait_for(lambda: self.clients.acknowledged() > before, 60, "nothing is accepted")
        wait_for(lambda: self.clients.open, 60, "no request is under way", every=0.0005)
        self.hit += 1

    def goes_on(self, dsn: str) -> None:
        """Wait for the database, then for the first add accepted and the first call after that."""
        wait_for(lambda: takes_writes(dsn), 60, "it does not come back")
        self.resumes()

    def resumes(self) -> None:
        """The database is back: what was sent before it does not count."""
        since, placed = time.monotonic(), self.log.look().placed

        def accepted() -> bool:
            return any(one.settled and one.began >= since for one in self.clients.sent[-400:])

        self.back.append(wait_for(accepted, 20, "nothing is accepted again"))
        wait_for(lambda: self.log.look().placed > placed, 20, "nothing is called again")
        self.called.append(time.monotonic() - since)

    def end(self, target: Target, how: signal.Signals) -> None:
        """The whole PostgreSQL ends and comes back."""
        self.ready()
        target.end(how)
        down = datetime.now(UTC)
        self.away.append((down, target.revive()))
        self.goes_on(target.dsn)

    def kill_backend(self, target: Target, chance: random.Random, *, calls: bool = True) -> None:
        """One of its processes that serve us, a busy one if there is any: the others are ended for it.

        `calls`: before the next blow a call has to leave as well.
        """
        self.ready(calls=calls)
        wait_for(lambda: sessions(target), 60, "nobody is served")
        serving = sessions(target)
        busy = [one for one in serving if "idle" not in title_of(one.pid)]
        chance.choice(busy or serving).signal(signal.SIGKILL)
        # By parentage: within 20 s a number may be another process's.
        wait_for(lambda: not set(serving) & set(sessions(target)), 20, "the others live on")
        if calls:
            self.goes_on(target.dsn)

    def freeze(self, target: Target, seconds: float) -> None:
        """All its processes stand still."""
        self.ready()
        tree = target.tree()
        for one in tree:
            one.signal(signal.SIGSTOP)
        down = datetime.now(UTC)
        time.sleep(seconds)
        self.away.append((down, datetime.now(UTC)))
        for one in tree:
            one.signal(signal.SIGCONT)
        self.goes_on(target.dsn)

    def sent_without_database(self) -> list[str]:
        """Attempts whose call left while there was no database."""
        sent = [(order["attempt"], datetime.fromisoformat(order["at"])) for order in self.log.look().orders]
        return [one for one, at in sent for down, up in self.away if down + STILL_SENDS < at < up]


def sessions(target: Target) -> list[Process]:
    """The processes that serve somebody."""
    return [one for one in target.tree()[1:] if _serves(title_of(one.pid))]


def takes_writes(dsn: str) -> bool:
    """Whether the database works; it may be lost once more while it is asked."""
    try:
        ask(dsn, lambda conn: conn.fetchval("SELECT 1"))
    except LOST:
        return False
    return True


def _serves(title: str) -> bool:
    """Of PostgreSQL's processes those of sessions name a user, a database and where the client is."""
    return "[local]" in title or "127.0.0.1(" in title


@contextmanager
def trial(server: Server, numbers: int = 20_000) -> Iterator[Trial]:
    """Clients and a started campaign on a running server without a VDN."""
    survivors = server.of("supervisor", "api", "engine", "push")
    with adders(server, CAMPAIGNS, secret=SECRET) as clients, receiving(server.data.parent) as receiver:
        start_campaign(server.dsn, numbers, receiver.url, per_second=PER_SECOND)
        yield Trial(server, clients, receiver, CarrierLog(server.carrier_log))
    assert all(one.alive() for one in survivors), server.said()


@dataclass
class Outcome:
    """What the witnesses say in the end."""

    adds: Verdict
    calls: Calls


def outcome(one: Trial) -> Outcome:
    """Both verdicts, after the clients have stopped; fails unless they and the promised times hold."""
    adds = judged(one.server, one.clients)
    call_no_more(one.server.dsn)
    leases_run_out(one.server)
    calls = all_ended(one.server.dsn, one.log, one.receiver)
    print(
        f"{len(one.back)} outages, {one.hit} with a request under way; accepted again after at most"
        f" {max(one.back):.2f} s, called again after at most {max(one.called):.2f} s"
    )
    assert adds.slowest <= ANSWER_WITHIN + MEASURED, f"slowest {adds.slowest}"
    assert max(one.back) <= BACK_WITHIN + MEASURED, "accepted late"
    assert max(one.called) <= BACK_WITHIN + MEASURED, "called late"
    assert not one.sent_without_database(), "called without the database"
    assert calls.unknown == 0, "calls were lost"
    assert adds.outcomes[NOT_SENT] == 0
    assert adds.outcomes[NO_STORE] + adds.outcomes[CUT] >= 1, "nobody noticed: nothing is proved"
    return Outcome(adds, calls)


# -- commits whose end was not heard -----------------------------------------------------------------------


def witnessed(place: Path, *also: tuple[str, str, str]) -> tuple[tuple[str, str, str], ...]:
    """Changes that have each add whose statement's end was not heard noted, with what was learned."""
    note = f'def _note(word: str) -> None:\n    with open("{place}/fates", "a") as file:\n'
    return (
        ("store/numbers.py", "def _resolve(", f'{note}        file.write(word + "\\n")\n\n\ndef _resolve('),
        (
            "store/numbers.py",
            "                if row is None:\n                    _fail(waiting",
            '                _note("absent" if row is None else "kept")\n'
            "                if row is None:\n                    _fail(waiting",
        ),
        (
            "store/numbers.py",
            "                _fail(waiting, commit_unknown(",
            '                _note("unknown")\n                _fail(waiting, commit_unknown(',
        ),
        *also,
    )


def witnessing(place: Path, mutate: Mutate, *also: tuple[str, str, str]) -> Path:
    """A copy of src that notes fates; `also`: a seeded bug."""
    return mutate(*witnessed(place, *also))


def fates(place: Path) -> Counter[str]:
    """Adds whose statement's end was not heard: kept, absent, or unknown in time."""
    file = place / "fates"
    found = Counter(file.read_text().split() if file.exists() else ())
    print(f"statements whose end was not heard: {dict(found)}")
    return found
