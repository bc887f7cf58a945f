"""Tests of the dialer as conversations: `>>` what the world says, `<<` what the dialer does, times explicit.

    play.at(3.0) >> Answered(one.attempt_id)
    play.at(63.0) >> Ended(one.attempt_id, cause=16, answered=True)
    play << settled(one, Disposition.ANSWERED)

Everything the dialer does must be said: going on, and the end of the test, fail on an action that was not.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from outdial.dialing import Claim, Claimed, Dialer, Now, PacedCampaign, Place, Settle, SwitchUp, Withdraw
from outdial.model import (
    Attempt,
    CallWindow,
    Campaign,
    CampaignState,
    DeviceType,
    Disposition,
    OpenCall,
    Originate,
    Room,
    TimerPacing,
)

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ALWAYS = (CallWindow(0, 1440), None, None)


def campaign(**changes: Any) -> Campaign:
    """A started campaign that calls one number a second, all day."""
    facts: dict[str, Any] = {
        "vdn_id": 1,
        "campaign_id": 7,
        "name": "spring",
        "description": "",
        "device_type": DeviceType.AUTOMATIC_IVR,
        "state": CampaignState.STARTED,
        "begin_at": NOON - timedelta(days=1),
        "end_at": NOON + timedelta(days=30),
        "caller_no": "10086",
        "max_alerting_time": 20,
        "windows": ALWAYS,
        "pacing": TimerPacing("main", 1, 1),
        "callback_url": "http://127.0.0.1:9/results",
        "incomplete": 100,
    }
    return Campaign(**{**facts, **changes})


def paced(**changes: Any) -> PacedCampaign:
    """The same in a VDN on UTC."""
    return PacedCampaign(campaign(**changes), "UTC")


def attempt(called: str = "80001", **changes: Any) -> Attempt:
    """An attempt of that campaign."""
    facts: dict[str, Any] = {
        "vdn_id": 1,
        "campaign_id": 7,
        "contact_id": 1,
        "attempt_id": uuid4(),
        "attempt_no": 1,
        "called": called,
        "caller": "10086",
        "max_alerting_time": 20,
        "intent_at": NOON,
    }
    return Attempt(**{**facts, **changes})


def place(one: Attempt) -> Place:
    return Place(
        Originate(
            one.attempt_id,
            one.called,
            one.caller,
            vdn_id=one.vdn_id,
            campaign_id=one.campaign_id,
            device_sign="main",
            call_data=one.call_data,
            session_id=one.session_id,
            max_alerting_time=one.max_alerting_time,
        )
    )


def asked(one: Attempt, **facts: Any) -> OpenCall:
    """The call as a switch is asked about it."""
    return OpenCall(one.attempt_id, one.vdn_id, one.called, one.caller, **facts)


def claim(of: PacedCampaign | None = None, limit: int | None = None, *, rest: bool = False) -> Claim:
    """A claim of that campaign, of all that its timer allows unless a limit is given."""
    campaign = (of or paced()).campaign
    return Claim(1, campaign.campaign_id, limit or campaign.pacing.call_count, rest)


def withdraw(one: Attempt) -> Withdraw:
    return Withdraw(one.vdn_id, one.attempt_id)


class Settled:
    """A `Settle` of this attempt with these facts; others may be anything."""

    def __init__(self, one: Attempt, disposition: Disposition, **facts: Any) -> None:
        self.facts = {"attempt_id": one.attempt_id, "vdn_id": 1, "disposition": disposition, **facts}

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settle) and all(
            getattr(other.settlement, name) == value for name, value in self.facts.items()
        )

    def __repr__(self) -> str:
        return f"Settled({self.facts})"


settled = Settled


class Playbook:
    """A dialer, a clock that stands still between the lines, and what the dialer did."""

    def __init__(self) -> None:
        self.dialer = Dialer()
        self.room = 10**6
        self.now = Now(NOON, 1000.0)
        self._did: list[object] = []

    def at(self, seconds: float, wall: datetime | None = None) -> Playbook:
        """The time is `seconds` after the start; the wall clock follows unless it is set here."""
        self.settle_up()
        shift = timedelta(seconds=1000.0 + seconds - self.now.mono)
        self.now = Now(wall or self.now.wall + shift, 1000.0 + seconds)
        self._poll()
        return self

    def __rshift__(self, event: Any) -> Playbook:
        self.settle_up()
        self._did += self.dialer.receive(event, self.now)
        self._poll()
        return self

    def __lshift__(self, action: object) -> Playbook:
        assert self._did, f"the dialer should have: {action}"
        assert self._did.pop(0) == action
        return self

    def load(self, *campaigns: PacedCampaign) -> Playbook:
        self.settle_up()
        self.dialer.load(campaigns, self.now)
        self._poll()
        return self

    def settle_up(self) -> None:
        """Nothing was done that nobody asked about."""
        assert self._did == []

    def _poll(self) -> None:
        for _ in range(1000):
            actions = self.dialer.poll(self.now, lambda _: Room("north", self.room))
            if not actions:
                break
            self._did += actions
        else:
            raise AssertionError("poll never comes to an end")
        wake_at = self.dialer.wake_at(self.now)
        assert wake_at is None or wake_at > self.now.mono, "nothing to do, and yet awake"

    # -- openings ----------------------------------------------------------------------------------

    def claimed(
        self, *attempts: Attempt, of: PacedCampaign | None = None, began: float | None = None, **facts: Any
    ) -> Claimed:
        """A claim that committed now, having begun `began` seconds after the start."""
        of = of or paced()
        if attempts and of.campaign.last_launch_at is None:
            of = replace(of, campaign=replace(of.campaign, last_launch_at=self.now.wall))
        start = self.now.mono if began is None else 1000.0 + began
        return Claimed((1, of.campaign.campaign_id), of, tuple(attempts), start, **facts)

    def launch(self, *attempts: Attempt, of: PacedCampaign | None = None) -> Playbook:
        """The campaign is claimed, these calls are placed, and it rests for eleven days."""
        of = of or paced(pacing=TimerPacing("main", 10, 10**6))
        self >> SwitchUp()
        self.load(of) << claim(of)
        self >> self.claimed(*attempts, of=of)
        for one in attempts:
            self << place(one)
        return self
