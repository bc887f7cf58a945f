"""Which campaign is to be claimed when: the lines in which started campaigns wait for their next launch.

A line whose time has come waits for room on its trunks, as `sharing.py` hands it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import heappop, heappush
from math import inf
from typing import Final

from outdial import calendar, campaigns, pacing
from outdial.dialing.selection import PacedCampaign
from outdial.dialing.sharing import Promise, Share, Trunks
from outdial.dialing.words import RETRY, ROOM_LOOK, Claim, Claimed, Key, Now, RoomOf
from outdial.model import CampaignState

LONGEST_QUIET: Final = 5.0
"""Seconds until a campaign in which nothing was due is claimed again, at most."""

CHANNEL_LOOK: Final = 0.1
"""Seconds in which an end that frees a channel is stored, mostly."""

_STEP: Final = 0.005
"""Seconds until a claim that was due by one clock and not by the other is looked at again."""


@dataclass(slots=True)
class _Line:
    """A campaign that waits. `launched`, `due` and what ends in `until` are monotonic seconds."""

    paced: PacedCampaign
    share: Share
    launched: float = -inf
    sending_until: float = -inf  # `max_cps`: the next call may have its moment then
    full_until: float = -inf  # `max_channels`: nobody said that one is free again
    failed_until: float = -inf
    quiet: float = 0.0
    quiet_until: float = -inf
    due: float = inf
    closed: tuple[datetime, datetime] | None = None  # known to lie outside the hours

    @property
    def paced_until(self) -> float:
        return self.launched + self.paced.campaign.pacing.call_interval

    def take(self, paced: PacedCampaign) -> None:
        """What the store knows now. More numbers end the quiet; other hours are judged anew."""
        if paced.campaign.incomplete > self.paced.campaign.incomplete:
            self.quiet, self.quiet_until = 0.0, -inf
        if _hours(paced) != _hours(self.paced):
            self.closed = None
        self.paced, self.share.priority = paced, paced.campaign.priority

    def next_claim(self, now: Now) -> float:
        """When to claim next. The monotonic clock holds the pace where the wall clock jumps ahead."""
        campaign = self.paced.campaign
        if campaign.state is not CampaignState.STARTED or now.wall >= campaign.end_at:
            return inf
        allowed = max(campaign.begin_at, pacing.next_call(campaign, now.wall))
        if self.closed is not None and self.closed[0] <= now.wall < self.closed[1]:
            allowed = max(allowed, self.closed[1])
        due = now.mono + max(timedelta(), allowed - now.wall).total_seconds()
        paced_until = self.paced_until if pacing.is_new_launch(campaign, allowed) else -inf
        return max(due, paced_until, self.sending_until, self.full_until, self.failed_until, self.quiet_until)

    def wanted(self, now: Now) -> int:
        """How many calls the rules allow now; it is asked when the claim was due by the clocks before."""
        if self.next_claim(now) > now.mono:
            return 0
        return pacing.allowance(self.paced.campaign, self.paced.time_zone, now.wall)

    def launch(self, event: Claimed, now: Now) -> None:
        """What a claim has made of it."""
        assert event.paced is not None, "there is a campaign"
        before = self.paced.campaign.last_launch_at
        self.take(event.paced)
        if event.attempts:
            self.quiet = 0.0
            if event.paced.campaign.last_launch_at != before:
                self.launched = now.mono
            if event.paced.campaign.max_cps is not None:
                self.sending_until = event.send_at[-1] + pacing.spacing(event.paced.campaign).total_seconds()
        elif event.full:
            self.full_until = now.mono + RETRY
        elif event.empty:
            self.rest(now)
        else:
            self.failed_until = now.mono + _STEP

    def close(self, now: Now) -> None:
        """The rules forbid a claim: remember until when, if the hours are why."""
        campaign = self.paced.campaign
        opens_at = campaigns.opens_at(campaign, calendar.zone(self.paced.time_zone), now.wall)
        self.closed = (now.wall, opens_at or campaign.end_at)
        self.failed_until = now.mono + _STEP

    def rest(self, now: Now) -> None:
        """Nothing was due: look again later, and later still."""
        self.quiet = min(max(RETRY, 2 * self.quiet), LONGEST_QUIET)
        self.quiet_until = now.mono + self.quiet

    def is_asleep(self, now: Now) -> bool:
        """Whether it waits for a number or a channel."""
        return bool(self.quiet) or self.full_until > now.mono

    def wake(self, now: Now) -> None:
        """Look again soon."""
        if self.quiet:
            self.quiet, self.quiet_until = 0.0, min(self.quiet_until, now.mono + RETRY)
        self.full_until = min(self.full_until, now.mono + CHANNEL_LOOK)


def _hours(paced: PacedCampaign) -> tuple[object, ...]:
    """What decides when calls may be placed, but for the dates of the campaign."""
    return *campaigns.hours(paced.campaign), paced.time_zone


class ClaimSchedule:
    """The lines of all campaigns; at most `limit` claims at the same time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._claiming: dict[Key, Promise] = {}
        self._lines: dict[Key, _Line] = {}
        self._due: list[tuple[float, Key]] = []
        self._waiting: dict[Key, None] = {}  # due, but there was no room
        self._look_at = inf
        self.trunks = Trunks()

    def load(self, started: Iterable[PacedCampaign], now: Now) -> None:
        """Take the started campaigns; one that is gone is kept only as long as its last launch counts."""
        before, self._lines, self._due, self._waiting = self._lines, {}, [], {}
        for paced in started:
            key = (paced.campaign.vdn_id, paced.campaign.campaign_id)
            line = self._lines[key] = before.pop(key) if key in before else _Line(paced, Share(key))
            line.take(paced)
        for key, line in before.items():
            if key in self._claiming or line.paced_until > now.mono:
                gone = replace(line.paced.campaign, state=CampaignState.SUSPENDED)
                line.take(replace(line.paced, campaign=gone))
                self._lines[key] = line
        for key in self._lines:
            self._line_up(key, now)

    def claims(self, now: Now, room: RoomOf) -> list[Claim]:
        """The claims that are due and have room."""
        while self._due and self._due[0][0] <= now.mono:
            due, key = heappop(self._due)
            if key in self._lines and self._lines[key].due == due and key not in self._waiting:
                self._waiting[key] = None
                self._look_at = now.mono
        if self._look_at > now.mono or len(self._claiming) >= self._limit:
            return []
        found = list(self._claim_waiting(now, room))
        self._look_at = now.mono + ROOM_LOOK if self._waiting else inf
        return found

    def _claim_waiting(self, now: Now, room: RoomOf) -> Iterator[Claim]:
        shares = [self._lines[key].share for key in self._waiting]
        for offer in self.trunks.offers(shares, room):
            key = offer.share.key
            line = self._lines[key]
            del self._waiting[key]
            if not (wanted := line.wanted(now)):
                line.close(now)
                self._line_up(key, now)
                continue
            limit = min(wanted, offer.calls)
            self._claiming[key], line.due = self.trunks.promise(offer.share, limit), inf
            yield Claim(*key, limit, rest=not pacing.is_new_launch(line.paced.campaign, now.wall))
            if len(self._claiming) >= self._limit:
                return

    def next_due(self) -> float:
        """The monotonic time of the next claim; infinite while none may begin."""
        if len(self._claiming) >= self._limit:
            return inf
        return min(self._look_at, self._due[0][0] if self._due else inf)

    def claimed(self, event: Claimed, now: Now) -> str | None:
        """A claim has committed; the trunk group of its calls, or None when none was under way."""
        if event.key not in self._claiming:
            return None
        line, group = self._lines[event.key], self._claiming[event.key].group
        if event.paced is None:
            line.failed_until = now.mono + RETRY
        else:
            line.launch(event, now)
        self._over(event.key, len(event.attempts), now)
        return group

    def failed(self, key: Key, now: Now) -> None:
        """A claim has failed."""
        if key in self._claiming:
            self._lines[key].failed_until = now.mono + RETRY
            self._over(key, 0, now)

    def look_again(self, key: Key, now: Now) -> None:
        """A number of this campaign is about to be ready again, or one of its channels to be free."""
        line = self._lines.get(key)
        if line is not None and line.is_asleep(now):
            line.wake(now)
            self._line_up(key, now)

    def _over(self, key: Key, calls: int, now: Now) -> None:
        self.trunks.claimed(self._lines[key].share, self._claiming.pop(key), calls)
        if self._waiting:
            self._look_at = now.mono
        self._line_up(key, now)

    def _line_up(self, key: Key, now: Now) -> None:
        line = self._lines[key]
        line.due = line.next_claim(now) if key not in self._claiming else inf
        self._waiting.pop(key, None)
        if line.due < inf:
            heappush(self._due, (line.due, key))
