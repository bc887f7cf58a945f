"""A primary that is lost and a standby that takes its place, while clients add and calls leave.

With a synchronous standby nothing that was answered is lost, and no call is placed twice (G1 to G3). With
an asynchronous one exactly what had not reached it is lost.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from adding import CUT, verdict
from calling import SETTINGS, incomplete, outbox, rows
from calling import verdict as verdict_on_calls
from clusters import Cluster, clusters
from outages import BACK_WITHIN, STILL_SENDS, Trial, outcome, trial
from serving import Process, Serve, ask, wait_for
from test_adds import MEASURED
from test_calls import leases_run_out
from trunks import call_no_more

from outdial.errors import SettingError
from outdial.store.postgres import check_server

STANDBY = "outdial_standby"
LONGEST = timedelta(seconds=5)
"""That a call lasts, with its settlement."""

WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
REPLICATION = "SELECT sync_state, sent_lsn - flush_lsn AS lag FROM pg_stat_replication"


@dataclass
class Pair:
    """A primary with a standby, and the DSN that names both."""

    primary: Cluster
    standby: Cluster
    _held: Process | None = None

    @property
    def dsn(self) -> str:
        hosts = f"127.0.0.1:{self.standby.port},127.0.0.1:{self.primary.port}"
        return f"postgresql://outdial@{hosts}/postgres"

    def replicates(self, state: str) -> bool:
        """Whether the standby follows in this way."""
        return [row["sync_state"] for row in rows(self.primary.dsn, REPLICATION)] == [state]

    def hold(self) -> None:
        """From now on nothing reaches the standby, though the primary believes that it is there."""
        self._held = self.standby.one("walreceiver")
        self._held.signal(signal.SIGSTOP)

    def lag(self) -> int:
        """Bytes that the primary has sent and the standby has not kept."""
        return int(rows(self.primary.dsn, REPLICATION)[0]["lag"])

    def fail_over(self) -> None:
        """The primary is killed, and the standby takes its place."""
        self.primary.signal(signal.SIGKILL)
        if self._held is not None:  # what it has not read is lost with it
            self._held.signal(signal.SIGKILL)
            wait_for(lambda: not self._held.alive(), 10, "it does not end")
        self.standby.promote()


@pytest.fixture
def pair(place: Path) -> Iterator[Pair]:
    """A primary and its standby, which follows it asynchronously."""
    with clusters(place) as made:
        found = Pair(made("primary"), made(STANDBY))
        found.primary.make()
        found.primary.start(wal_level="replica", wal_sender_timeout="60s")
        found.standby.standby_of(found.primary)
        found.standby.start()
        wait_for(lambda: found.replicates("async"), 30, found.standby.said)
        yield found


@pytest.fixture
def synchronous(pair: Pair) -> Pair:
    """The same, and the primary waits for its standby."""
    rows(pair.primary.dsn, f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")
    rows(pair.primary.dsn, "SELECT pg_reload_conf()")
    wait_for(lambda: pair.replicates("sync"), 30, pair.standby.said)
    return pair


def fail_over_under_load(one: Trial, pair: Pair) -> None:
    """Kill the primary with a request under way, promote, and see adds and calls go on."""
    with one.clients.adding():
        one.ready()
        pair.fail_over()
        one.resumes()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_failover_to_a_synchronous_standby_loses_nothing(serve: Serve, synchronous: Pair) -> None:
    server = serve(database=synchronous.dsn, **SETTINGS)
    with trial(server) as one:
        fail_over_under_load(one, synchronous)
        outcome(one)


def nothing_unreplicated_is_acknowledged(serve: Serve, synchronous: Pair) -> None:
    """Replication stands still under load, and then the primary is lost."""
    server = serve(database=synchronous.dsn, **SETTINGS)
    with trial(server) as one:
        with one.clients.adding():
            one.ready()
            synchronous.hold()
            down = datetime.now(UTC)
            time.sleep(6.0)
            one.away.append((down, datetime.now(UTC)))
            alone = committed_alone(one, synchronous)
            waiting = len(rows(synchronous.primary.dsn, WAITING))
            synchronous.fail_over()
            one.resumes()
        found = outcome(one)
    print(f"{alone} requests were on the primary alone, and lost with it; {waiting} sessions waited")
    assert waiting <= 12, "sessions that nobody waits for stay"
    assert alone >= 1, "nothing was on the primary alone: nothing is proved"
    assert found.adds.outcomes[CUT] >= 1


def test_what_a_synchronous_standby_does_not_have_is_not_acknowledged(
    serve: Serve, synchronous: Pair
) -> None:
    """A commit whose wait for the standby was cut short is there on the primary, and nowhere else.

    It is not acknowledged, nor when it is looked up, nor when its request is repeated; no call leaves.
    """
    nothing_unreplicated_is_acknowledged(serve, synchronous)


def committed_alone(one: Trial, pair: Pair) -> int:
    """Requests whose rows the primary shows, and the standby does not."""
    query = "SELECT DISTINCT split_part(session_id, '-', 1) AS n FROM contact WHERE session_id LIKE '0%-%'"
    there = {row["n"] for row in rows(pair.primary.dsn, query)}
    return len(there - {row["n"] for row in rows(pair.standby.dsn, query, writes=False)})


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_failover_to_an_asynchronous_standby_loses_what_it_did_not_have(serve: Serve, pair: Pair) -> None:
    """And nothing else: what was answered before replication stood still is there."""
    server = serve(database=pair.dsn, **SETTINGS)
    with trial(server) as one:
        with one.clients.adding():
            one.ready()
            time.sleep(1.0)
            pair.hold()
            held, held_at = time.monotonic(), datetime.now(UTC)
            time.sleep(3.0)
            lag = pair.lag()
            pair.fail_over()
            one.resumes()
        adds = verdict(server.data.with_name("journal.jsonl"), server)
        print(f"lag {lag} bytes; {adds}")
        sent = {request.number: request for request in one.clients.sent}
        assert lag > 0
        assert adds.lost, "nothing was lost: the check sees nothing"
        assert all(sent[number].ended >= held for number in adds.lost), "more was lost than had not arrived"
        assert (adds.twice, adds.torn, adds.miscounted) == ([], [], [])
        assert max(one.back + one.called) <= BACK_WITHIN + MEASURED
        call_no_more(server.dsn)
        leases_run_out(server)
        judged_calls(one, held_at)


def judged_calls(one: Trial, held_at: datetime) -> None:
    """What may be otherwise: calls whose intents, or whose ends, were lost with the primary; no others.

    Their numbers are called again, or their ends are learned and pushed once more.
    """
    dsn, log = one.server.dsn, one.log
    wait_for(lambda: not incomplete(dsn), 120, "numbers do not end", every=0.1)
    wait_for(lambda: not outbox(dsn), 120, "results are not delivered", every=0.1)
    found = verdict_on_calls(dsn, log, one.receiver)
    print(found)
    placed = {order["attempt"]: order for order in log.orders}

    def since(early: timedelta, attempts: set[str]) -> bool:
        return all(datetime.fromisoformat(placed[key]["at"]) >= held_at - early for key in attempts)

    gone = set(found.faults.pop("a call without an attempt"))
    assert gone, "no call lost its intent: nothing is proved"
    assert since(STILL_SENDS, gone)
    assert since(LONGEST, set(found.faults.pop("two results of one call")))
    again = set(found.faults.pop("a number called twice"))
    assert again <= {placed[key]["called"] for key in gone}
    assert set(found.faults.pop("results of nothing")) <= gone
    assert found.sound, found.faults


def test_a_synchronous_standby_that_is_not_waited_for_is_refused(place: Path) -> None:
    """G1 after a failover; the same server is let in when commits wait."""

    def waits(how: str) -> None:
        # The first words keep this commit itself from waiting for a standby that is not there.
        change = f"SET synchronous_commit = off; ALTER ROLE outdial SET synchronous_commit = {how}"
        ask(primary.dsn, lambda conn: conn.execute(change))

    with clusters(place) as made:
        primary = made("primary")
        primary.make()
        primary.start(synchronous_standby_names=STANDBY)
        for how in ("local", "remote_write"):
            waits(how)
            with pytest.raises(SettingError, match=f"synchronous standby and synchronous_commit {how}"):
                asyncio.run(check_server(primary.dsn))
        waits("on")
        asyncio.run(check_server(primary.dsn))
