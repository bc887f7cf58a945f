"""One attempt in flight, as the dialer sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from math import inf

from outdial.dialing.selection import PacedCampaign
from outdial.dialing.words import MAX_CALL, Now
from outdial.model import Attempt, OpenCall, Originate


class Phase(Enum):
    INTENDED = "intended"
    ALERTING = "alerting"  # INTENDED -> ALERTING: placed
    TALKING = "talking"  # ALERTING -> TALKING: answered
    RELEASING = "releasing"  # ALERTING, TALKING -> RELEASING: hung up by us


@dataclass(slots=True)
class Call:
    """An attempt in flight. While in doubt, `limit` keeps the deadline that holds afterwards.

    `group`: of the trunks whose room it was promised.
    """

    attempt: Attempt
    phase: Phase = Phase.INTENDED
    paced: PacedCampaign | None = None
    group: str = ""
    send_by: float = -inf
    deadline: float = inf
    limit: float = inf
    in_doubt: bool = False
    gave_up: bool = False
    sent_at: datetime | None = None
    ringing_at: datetime | None = None
    answered_at: datetime | None = None
    dialog: str = ""

    def open(self) -> OpenCall:
        """What a switch is told of it in an inquiry."""
        of = self.attempt
        return OpenCall(
            of.attempt_id, of.vdn_id, of.called, of.caller, self.dialog, self.answered_at, of.sent_by
        )

    def order(self) -> Originate:
        """The order to place it."""
        of, paced = self.attempt, self.paced
        return Originate(
            of.attempt_id,
            of.called,
            of.caller,
            vdn_id=of.vdn_id,
            campaign_id=of.campaign_id,
            device_sign=paced.campaign.pacing.device_sign if paced is not None else "",
            call_data=of.call_data,
            session_id=of.session_id,
            max_alerting_time=of.max_alerting_time,
        )


def found(attempt: Attempt, now: Now) -> Call:
    """A call of a dead run, as far as the store knows how far it had come."""
    answered = attempt.answered_at is not None
    return Call(
        attempt,
        phase=Phase.TALKING if answered else Phase.ALERTING,
        limit=now.mono + (MAX_CALL if answered else attempt.max_alerting_time),
        sent_at=attempt.sent_at,
        ringing_at=attempt.ringing_at,
        answered_at=attempt.answered_at,
        dialog=attempt.dialog,
    )
