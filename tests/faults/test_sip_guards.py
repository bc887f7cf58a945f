"""Each proof over SIP is seen red with its guard taken out: the same proofs against mutated copies of src."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import Mutate, Serve
from test_fault_guards import NO_FENCE, PLACED_BEFORE
from test_sip_bounds import (
    no_call_of_an_overtaken_engine,
    no_failover_after_a_pause,
    no_failover_without_the_database,
    no_invite_of_an_overtaken_engine,
    no_second_invite_of_an_overtaken_engine,
    stops_at_a_denial,
    stops_at_a_pause,
    stops_at_a_removal,
)
from test_sip_calls import (
    answered_when_forgotten,
    frozen_in_the_middle_of_a_launch,
    outlives_freezes,
    survives_database_kills,
    survives_kills,
)
from test_sip_survival import database_stands_still_and_dies, survives
from test_sip_takeover import takes_over

pytestmark = [pytest.mark.guard, pytest.mark.long]

RINGING = ("04",)
"""Numbers that ring until the caller gives up."""

PERMITTED = "permitted = await self._desk.permits(self._order)"
IN_ITS_NAME = "Call.abandoned(replace(spec, via=orphan.sent_by.get(hop.host, spec.via)))"
STALLED = "self.stalls, self.held = self.stalls + 1, True\n"
HELD_BACK = 'if not (self.timers.held and effect.data.startswith(b"INVITE ")):'


# -- an engine that is killed ------------------------------------------------------------------------------


def test_a_call_before_its_intent_is_seen(serve: Serve, mutate: Mutate) -> None:
    source = mutate(*PLACED_BEFORE)
    with pytest.raises(AssertionError, match=r"a call without an attempt|stay open"):
        survives_kills(serve, 3, source=source)


def test_a_call_of_a_dead_engine_that_is_dialed_again_is_seen(serve: Serve, mutate: Mutate) -> None:
    lost = "        if word.fate is not Fate.ALIVE:\n            return [self._lost(call, now)]"
    source = mutate(("dialing/dialer.py", lost, lost.replace("_lost", "_withdraw")))
    with pytest.raises(AssertionError, match=r"a number called twice|a call without an attempt"):
        survives_kills(serve, 1, source=source)


def test_an_answer_acknowledged_before_it_is_stored_is_seen(serve: Serve, mutate: Mutate) -> None:
    """Nobody knows the dialog then: a CANCEL ends no answered call."""
    stored = (
        "return [Remember(of.vdn_id, of.attempt_id, call.dialog, now.wall, call.ringing_at, call.sent_at)]"
    )
    source = mutate(("dialing/dialer.py", stored, "return self._confirm(of.attempt_id)"))
    with pytest.raises(AssertionError, match="stay open"):
        survives_kills(serve, 1, source=source)


def test_names_that_do_not_follow_from_the_attempt_are_seen(serve: Serve, mutate: Mutate) -> None:
    """A call that rings cannot be cancelled by the next engine."""
    source = mutate(
        ("sip/dialog.py", "import hashlib\n", "import hashlib\nimport os\n"),
        ("sip/dialog.py", "+ trunk.encode()).hexdigest()", "+ trunk.encode() + os.urandom(8)).hexdigest()"),
    )
    with pytest.raises(AssertionError, match="stay open"):
        survives_kills(serve, 1, source=source, endings=RINGING, rings=60)


def test_a_second_leg_that_nobody_takes_over_is_seen(serve: Serve, mutate: Mutate) -> None:
    """As if a transfer's attempt were only a line of its call's."""
    theirs = "a.ended_at IS NULL AND a.epoch = ANY($1::bigint[]) ORDER"
    source = mutate(("store/queries/calls.sql", theirs, f"a.transfer_of IS NULL AND {theirs}"))
    with pytest.raises(AssertionError, match=r"stay open|an attempt that has not ended"):
        survives_kills(serve, 1, source=source, supervised=False, endings=("01",), bridged=True)


def test_a_late_answer_that_nobody_releases_is_seen(serve: Serve, mutate: Mutate) -> None:
    source = mutate(("switch/sip.py", "        self._endpoint.on_stray = self._release_stray\n", ""))
    with pytest.raises(AssertionError, match="stay open"):
        answered_when_forgotten(serve, source)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_cancel_in_ones_own_name_is_seen(
    database: str, place: Path, mutate: Mutate, transport: str
) -> None:
    """A far end knows a CANCEL by the sender of its INVITE."""
    source = mutate(("switch/sip.py", IN_ITS_NAME, "Call.abandoned(spec)"))
    with pytest.raises(AssertionError, match="10 calls stay open"):
        takes_over(database, place, transport, source)


# -- an engine that is frozen ------------------------------------------------------------------------------


def test_an_engine_without_a_fence_is_seen(database: str, place: Path, mutate: Mutate) -> None:
    with pytest.raises(AssertionError, match="the overtaken engine goes on"):
        outlives_freezes(database, place, 1, source=mutate(*NO_FENCE))


def test_an_engine_that_goes_on_where_it_was_frozen_is_seen(
    database: str, place: Path, mutate: Mutate
) -> None:
    """Many calls on one reading of the clock."""
    source = mutate(("dialing/words.py", "PLACES_AT_ONCE: Final = 1\n", "PLACES_AT_ONCE: Final = 500\n"))
    with pytest.raises(AssertionError, match="the overtaken engine placed"):
        frozen_in_the_middle_of_a_launch(database, place, source=source)


def test_an_invite_that_is_repeated_after_a_freeze_is_seen(
    database: str, place: Path, mutate: Mutate
) -> None:
    source = mutate(("sip/timers.py", STALLED, "pass\n"))
    with pytest.raises(AssertionError, match="an INVITE is sent again"):
        no_invite_of_an_overtaken_engine(database, place, source)


def test_an_invite_with_credentials_after_a_freeze_is_seen(
    database: str, place: Path, mutate: Mutate
) -> None:
    source = mutate(("sip/endpoint.py", HELD_BACK, "if True:"))
    with pytest.raises(AssertionError, match="an INVITE with credentials is sent"):
        no_second_invite_of_an_overtaken_engine(database, place, source)


# -- a database that is killed ------------------------------------------------------------------------------


def test_a_campaign_that_is_looked_at_late_after_an_outage_is_seen(serve: Serve, mutate: Mutate) -> None:
    source = mutate(("dialing/words.py", "RETRY: Final = 1.0\n", "RETRY: Final = 12.0\n"))
    with pytest.raises(AssertionError, match="dialing goes on late"):
        survives_database_kills(serve, 2, source)


LOOK_FAILED = (
    '                log.warning("store unavailable", doing="look at the trunks", reason=str(error))\n'
)


def test_calls_that_are_hung_up_without_the_database_are_seen(serve: Serve, mutate: Mutate) -> None:
    hang_up = "                for line in list(self._lines.values()):\n                    line.hang_up()\n"
    source = mutate(("switch/sip.py", LOOK_FAILED, LOOK_FAILED + hang_up))
    with pytest.raises(AssertionError, match=r"ended before the blow|before the end of the prompt"):
        survives(serve, database_stands_still_and_dies, source=source)


def test_audio_that_waits_for_the_database_is_seen(serve: Serve, mutate: Mutate) -> None:
    source = mutate(
        ("switch/sip.py", "import contextlib\n", "import contextlib\nimport time\n"),
        ("switch/sip.py", LOOK_FAILED, LOOK_FAILED + "                time.sleep(1)\n"),
    )
    with pytest.raises(AssertionError, match="the audio was interrupted"):
        survives(serve, database_stands_still_and_dies, source=source)


# -- a trunk that refuses ----------------------------------------------------------------------------------


def test_a_failover_of_an_overtaken_engine_is_seen(database: str, place: Path, mutate: Mutate) -> None:
    source = mutate(
        ("switch/line.py", PERMITTED, "permitted = True"), ("sip/endpoint.py", HELD_BACK, "if True:")
    )
    with pytest.raises(AssertionError, match="calls of an overtaken engine"):
        no_call_of_an_overtaken_engine(database, place, source)


def test_a_failover_after_a_pause_is_seen(serve: Serve, mutate: Mutate) -> None:
    source = mutate(("switch/line.py", PERMITTED, "permitted = True"))
    with pytest.raises(AssertionError, match="calls after a pause"):
        no_failover_after_a_pause(serve, source)


def test_a_failover_without_the_database_is_seen(serve: Serve, mutate: Mutate) -> None:
    unknown = "        except StoreUnavailable:\n            return False"
    source = mutate(
        ("switch/sip.py", unknown, unknown.replace("False", "True")),
        ("switch/refer.py", "PERMIT_WITHIN: Final = 0.9\n", "PERMIT_WITHIN: Final = 60.0\n"),
    )
    with pytest.raises(AssertionError, match="calls without the database"):
        no_failover_without_the_database(serve, source)


# -- destinations and trunks -------------------------------------------------------------------------------

LOOKED_AT_SELDOM = ("switch/sip.py", "_LOOK_EVERY: Final = 1.0\n", "_LOOK_EVERY: Final = 10.0\n")


def test_a_denial_that_is_noticed_late_is_seen(serve: Serve, mutate: Mutate) -> None:
    with pytest.raises(AssertionError, match="calls after the bound"):
        stops_at_a_denial(serve, mutate(LOOKED_AT_SELDOM))


def test_a_removal_that_is_noticed_late_is_seen(serve: Serve, mutate: Mutate) -> None:
    with pytest.raises(AssertionError, match="calls after the bound"):
        stops_at_a_removal(serve, mutate(LOOKED_AT_SELDOM))


# -- a pause -----------------------------------------------------------------------------------------------


def test_calls_that_may_wait_too_long_are_seen(serve: Serve, mutate: Mutate) -> None:
    source = mutate(
        ("dialing/words.py", "SEND_WITHIN: Final = 0.9\n", "SEND_WITHIN: Final = 60.0\n"),
        ("pacing.py", "LEAD: Final = timedelta(seconds=0.4)", "LEAD: Final = timedelta(seconds=4)"),
    )
    with pytest.raises(AssertionError, match="calls after the bound"):
        stops_at_a_pause(serve, 2, source)
