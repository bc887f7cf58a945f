"""The dialer: every attempt from its committed intent to its one settlement or withdrawal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from heapq import heapify, heappop, heappush
from itertools import count, islice, takewhile, zip_longest
from math import inf
from typing import Final
from uuid import UUID

from outdial import pacing
from outdial.campaigns import in_hours
from outdial.dialing.call import Call, Phase, found
from outdial.dialing.schedule import ClaimSchedule
from outdial.dialing.selection import PacedCampaign
from outdial.dialing.words import (
    CONFIRM_WITHIN,
    INQUIRE_AT_ONCE,
    MAX_CALL,
    PLACES_AT_ONCE,
    RELEASE_WITHIN,
    RETRY,
    SEND_WITHIN,
    Action,
    Adopted,
    Claimed,
    ClaimFailed,
    Confirm,
    Event,
    HangUp,
    Inquire,
    NotSent,
    Now,
    Place,
    Remember,
    Remembered,
    RoomOf,
    Settle,
    Stop,
    SwitchDown,
    SwitchUp,
    Told,
    Withdraw,
)
from outdial.disposition import disposition
from outdial.model import (
    Answered,
    Attempt,
    Disposition,
    Ended,
    Fate,
    HungUpBy,
    Inquiry,
    Ringing,
    Room,
    Settlement,
    SwitchEvent,
    Transferring,
)

_CAUSES: Final = range(128)
_STATUSES: Final = range(100, 700)
"""What Q.850 and RFC 3261 §21 can say; a switch's other numbers are not stored."""

_ENDLESS: Final = Room("", 10**9)


def endless(vdn_id: int) -> Room:
    """Trunks that take whatever they are given."""
    return _ENDLESS


class Dialer:
    """Everything in flight of one engine run.

    The engine hands every event to `receive`, asks `poll` what time has made due, and carries out the
    actions of both. An attempt comes in by `Claimed` or `Adopted` and leaves by exactly one `Settle` or
    `Withdraw`; what is heard of it later is ignored, and counted in `ignored`. Waiting is measured on the
    monotonic clock, hours and dates on the wall clock.
    """

    def __init__(self, *, claims: int = 2) -> None:
        """`claims` at the same time, at most."""
        self._schedule = ClaimSchedule(claims)
        self._calls: dict[UUID, Call] = {}
        self._intended: list[tuple[float, int, Call]] = []  # by when they are to be sent
        self._turns = count()
        self._placed: list[str] = []  # trunk groups of the calls placed by the last poll
        self._deadlines: list[tuple[float, UUID]] = []
        self._doubtful: dict[UUID, None] = {}
        self._unconfirmed: dict[UUID, float] = {}  # confirmed at that time, stored or not; the earliest first
        self._ask_at = -inf
        self._asking = False
        self._up = False
        self._outages = 0
        self._stopping = False
        self.ignored = 0

    @property
    def up(self) -> bool:
        """Whether the switch was last heard to be up."""
        return self._up

    @property
    def in_flight(self) -> int:
        """Calls that were placed and have not ended."""
        return len(self._calls) - len(self._intended)

    def knows(self, attempt_id: UUID) -> bool:
        """Whether the attempt has come in and not yet left."""
        return attempt_id in self._calls

    def load(self, campaigns: Iterable[PacedCampaign], now: Now) -> None:
        """Take the started campaigns with something incomplete, as the store has them."""
        self._schedule.load(campaigns, now)

    def receive(self, event: Event, now: Now) -> list[Action]:
        """Hear one event; the actions it calls for. An event that comes twice changes nothing."""
        match event:
            case Ringing() | Answered() | Ended():
                return self._hear(event, now)
            case Claimed():
                self._claimed(event, now)
            case ClaimFailed(key):
                self._schedule.failed(key, now)
            case Adopted(attempts):
                self._adopt(attempts, now)
            case Told():
                return self._told(event, now)
            case Remembered(attempt_ids):
                return [one for attempt_id in attempt_ids for one in self._confirm(attempt_id)]
            case SwitchUp():
                self._up, self._ask_at = True, now.mono
            case SwitchDown():
                self._switch_down(now)
            case Stop():
                self._stopping = True
            case _:
                return self._hear(event, now)
        return []

    def poll(self, now: Now, room: RoomOf = endless) -> list[Action]:
        """What is to be done at `now`. Ask again, with a new reading of the clocks, until nothing is.

        `room`: what the trunks take right now; the calls placed by the last poll are known to it.
        """
        while self._placed:
            self._schedule.trunks.placed(self._placed.pop())
        actions = [*self._expire(now), *self._confirm_overdue(now), *self._place(now), *self._ask(now)]
        if self._up and not self._stopping:
            actions += self._schedule.claims(now, room)
        return actions

    def wake_at(self, now: Now) -> float | None:
        """The monotonic time of the next `poll` that may find something; None: an event comes first."""
        moments = [self._deadlines[0][0]] if self._deadlines else []
        if self._unconfirmed:
            moments.append(next(iter(self._unconfirmed.values())))
        if self._intended:
            moments.append(self._intended[0][0] if self._may_wait else now.mono)
        if self._up and self._doubtful and not self._asking:
            moments.append(self._ask_at)
        if self._up and not self._stopping:
            moments.append(self._schedule.next_due())
        earliest = min(moments, default=inf)
        return earliest if earliest < inf else None

    # -- placing ---------------------------------------------------------------------------------------

    def _claimed(self, event: Claimed, now: Now) -> None:
        group = self._schedule.claimed(event, now)
        if group is None:
            return
        send_by = event.began + SEND_WITHIN
        for attempt, send_at in zip_longest(event.attempts, event.send_at):
            call = Call(attempt, paced=event.paced, group=group, send_by=send_by)
            if send_at is not None:
                call.send_by = min(send_by, send_at + pacing.SLOT)
            self._calls[attempt.attempt_id] = call
            heappush(self._intended, (now.mono if send_at is None else send_at, next(self._turns), call))

    @property
    def _may_wait(self) -> bool:
        """Whether a call that is to be sent later may still be."""
        return self._up and not self._stopping

    def _place(self, now: Now) -> list[Action]:
        actions: list[Action] = []
        while self._intended and len(actions) < PLACES_AT_ONCE:
            if self._may_wait and self._intended[0][0] > now.mono:
                break
            call = heappop(self._intended)[2]
            self._placed.append(call.group)
            if self._may_place(call, now):
                call.phase, call.sent_at = Phase.ALERTING, now.wall
                self._arm(call, now.mono + call.attempt.max_alerting_time)
                actions.append(Place(call.order()))
            else:
                actions.append(self._withdraw(call, now))
        return actions

    def _may_place(self, call: Call, now: Now) -> bool:
        """Whether the permission of the claim still holds at this very moment (G6, G7)."""
        if self._stopping or not self._up or now.mono > call.send_by or call.paced is None:
            return False
        return in_hours(call.paced.campaign, call.paced.time_zone, now.wall)

    # -- calls -----------------------------------------------------------------------------------------

    def _hear(self, event: SwitchEvent | NotSent, now: Now) -> list[Action]:
        if isinstance(event, Transferring):
            return self._transferring(event, now)
        call = self._calls.get(event.attempt_id)
        if call is None or call.phase is Phase.INTENDED:
            self.ignored += 1
            return []
        match event:
            case Ringing():
                return self._ringing(call, now)
            case Answered():
                return self._answered(call, now, event.dialog)
            case Ended():
                return [self._ended(call, event, now)]
            case NotSent():
                return [self._withdraw(call, now)]

    def _transferring(self, event: Transferring, now: Now) -> list[Action]:
        """A call that the switch placed to hand another over: from here on it is like every call."""
        if event.attempt_id in self._calls:
            return []  # found open in the store a moment before we were told
        call = self._calls[event.attempt_id] = Call(event.attempt, phase=Phase.ALERTING)
        if not event.sent:
            return [self._settle(call, Disposition.NOT_ATTEMPTED, Ended(event.attempt_id), now)]
        call.sent_at = now.wall
        self._arm(call, now.mono + event.attempt.max_alerting_time)
        return []

    def _ringing(self, call: Call, now: Now) -> list[Action]:
        if call.ringing_at is None:
            call.ringing_at = now.wall
            if call.phase is Phase.ALERTING:
                self._arm(call, now.mono + call.attempt.max_alerting_time)
        return []

    def _answered(self, call: Call, now: Now, dialog: str = "") -> list[Action]:
        if call.answered_at is not None:
            return []
        call.answered_at, call.dialog = now.wall, dialog
        if call.phase is Phase.RELEASING:
            return self._hang_up(call, now)  # it crossed our cancel
        call.phase = Phase.TALKING
        self._arm(call, now.mono + MAX_CALL)
        return self._remember(call, now) if dialog else []

    def _remember(self, call: Call, now: Now) -> list[Action]:
        """An answer is stored before it is acknowledged: a dead run's call can then be found and ended."""
        of = call.attempt
        self._unconfirmed[of.attempt_id] = now.mono + CONFIRM_WITHIN
        return [Remember(of.vdn_id, of.attempt_id, call.dialog, now.wall, call.ringing_at, call.sent_at)]

    def _confirm(self, attempt_id: UUID) -> list[Action]:
        return [Confirm(attempt_id)] if self._unconfirmed.pop(attempt_id, None) is not None else []

    def _confirm_overdue(self, now: Now) -> list[Action]:
        """The callee hears nothing while a call is not acknowledged: the store gets so long, no longer."""
        if not self._unconfirmed:
            return []
        overdue = takewhile(lambda one: one[1] <= now.mono, self._unconfirmed.items())
        return [one for attempt_id, _ in list(overdue) for one in self._confirm(attempt_id)]

    def _hang_up(self, call: Call, now: Now) -> list[Action]:
        call.phase = Phase.RELEASING
        self._arm(call, now.mono + RELEASE_WITHIN)
        return [HangUp(call.attempt.attempt_id)]

    def _ended(self, call: Call, ended: Ended, now: Now) -> Settle:
        if call.answered_at is not None and not ended.answered:
            ended = replace(ended, answered=True)
        return self._settle(
            call, disposition(ended, gave_up=call.gave_up, rang=call.ringing_at is not None), ended, now
        )

    def _lost(self, call: Call, now: Now) -> Settle:
        """Nobody knows how it ended. Who was heard to answer was reached all the same."""
        reached = call.answered_at is not None and not call.gave_up
        verdict = Disposition.ANSWERED if reached else Disposition.UNKNOWN
        return self._settle(call, verdict, Ended(call.attempt.attempt_id), now)

    def _settle(self, call: Call, verdict: Disposition, ended: Ended, now: Now) -> Settle:
        self._forget(call)
        self._schedule.look_again((call.attempt.vdn_id, call.attempt.campaign_id), now)
        settlement = Settlement(
            vdn_id=call.attempt.vdn_id,
            attempt_id=call.attempt.attempt_id,
            disposition=verdict,
            ended_at=now.wall,
            ringing_at=call.ringing_at,
            answered_at=call.answered_at,
            cause=ended.cause if ended.cause in _CAUSES else None,
            sip_status=ended.sip_status if ended.sip_status in _STATUSES else None,
            hung_up_by=ended.hung_up_by,
            sent_at=call.sent_at,
            record=ended.record,
        )
        return Settle(settlement)

    def _withdraw(self, call: Call, now: Now) -> Withdraw:
        self._forget(call)
        self._schedule.look_again((call.attempt.vdn_id, call.attempt.campaign_id), now)
        return Withdraw(call.attempt.vdn_id, call.attempt.attempt_id)

    def _forget(self, call: Call) -> None:
        del self._calls[call.attempt.attempt_id]
        self._doubtful.pop(call.attempt.attempt_id, None)
        self._unconfirmed.pop(call.attempt.attempt_id, None)

    # -- time ------------------------------------------------------------------------------------------

    def _arm(self, call: Call, at: float) -> None:
        """Set the call's deadline; in doubt, the one that will hold afterwards."""
        if call.in_doubt:
            call.limit = at
            return
        call.deadline = at
        heappush(self._deadlines, (at, call.attempt.attempt_id))
        if len(self._deadlines) > 4 * len(self._calls) + 1000:
            self._deadlines = [(one.deadline, key) for key, one in self._calls.items() if one.deadline < inf]
            heapify(self._deadlines)

    def _expire(self, now: Now) -> list[Action]:
        actions: list[Action] = []
        while self._deadlines and self._deadlines[0][0] <= now.mono:
            at, attempt_id = heappop(self._deadlines)
            call = self._calls.get(attempt_id)
            if call is not None and call.deadline == at:
                actions += self._overdue(call, now)
        return actions

    def _overdue(self, call: Call, now: Now) -> list[Action]:
        if call.in_doubt:
            return [self._lost(call, now)]
        if call.phase is Phase.RELEASING:
            silence = Ended(call.attempt.attempt_id, hung_up_by=HungUpBy.CALLER)
            return [self._ended(call, silence, now)]
        call.gave_up = call.phase is Phase.ALERTING
        return self._hang_up(call, now)

    # -- doubt -----------------------------------------------------------------------------------------

    def _switch_down(self, now: Now) -> None:
        self._up = False
        self._outages += 1
        for call in self._calls.values():
            if call.phase is not Phase.INTENDED and not call.in_doubt:
                call.limit = call.deadline
                self._doubt(call, now)

    def _doubt(self, call: Call, now: Now) -> None:
        self._arm(call, now.mono + MAX_CALL)
        call.in_doubt = True
        self._doubtful[call.attempt.attempt_id] = None

    def _adopt(self, attempts: Iterable[Attempt], now: Now) -> None:
        for attempt in attempts:
            if attempt.attempt_id not in self._calls:
                call = self._calls[attempt.attempt_id] = found(attempt, now)
                self._doubt(call, now)

    def _ask(self, now: Now) -> list[Action]:
        if not self._doubtful or not self._up or self._asking or now.mono < self._ask_at:
            return []
        self._asking = True
        asked = tuple(self._calls[one].open() for one in islice(self._doubtful, INQUIRE_AT_ONCE))
        return [Inquire(asked, self._outages)]

    def _told(self, told: Told, now: Now) -> list[Action]:
        actions: list[Action] = []
        for word in told.words:
            call = self._calls.get(word.attempt_id)
            if call is None or call.phase is Phase.INTENDED:
                self.ignored += 1
            elif isinstance(word, Ended):
                actions.append(self._ended(call, word, now))
            elif call.in_doubt:
                actions += self._fate(call, word, now, stale=told.outages != self._outages)
        self._asking = False
        # Without a word nothing was learned: not at once again.
        self._ask_at = now.mono if told.words else now.mono + RETRY
        return actions

    def _fate(self, call: Call, word: Inquiry, now: Now, *, stale: bool) -> list[Action]:
        heard = call.ringing_at is not None or call.answered_at is not None
        if word.fate is Fate.UNSEEN and not heard and call.attempt.transfer_of is None:
            return [self._withdraw(call, now)]
        if word.fate is not Fate.ALIVE:
            return [self._lost(call, now)]
        if stale:
            return []  # lost again since: it is asked about anew
        return self._alive(call, answered=word.answered, now=now)

    def _alive(self, call: Call, *, answered: bool, now: Now) -> list[Action]:
        call.in_doubt = False
        del self._doubtful[call.attempt.attempt_id]
        if answered and call.answered_at is None:
            return self._answered(call, now)
        if call.phase is Phase.RELEASING:
            return self._hang_up(call, now)  # the first may have been lost with the switch
        self._arm(call, call.limit)
        return []
