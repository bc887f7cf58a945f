"""Which campaign is to be claimed when: the lines in which started campaigns wait for their next launch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import heappop, heappush
from math import inf
from typing import Final

from outdial import calendar, pacing
from outdial.dialing.selection import PacedCampaign
from outdial.dialing.words import RETRY, Claim, Claimed, Key, Now
from outdial.model import CampaignState

LONGEST_QUIET: Final = 5.0
"""Seconds until a campaign in which nothing was due is claimed again, at most."""

_STEP: Final = 0.005
"""Seconds until a claim that was due by one clock and not by the other is looked at again."""


@dataclass(slots=True)
class _Line:
    """A campaign that waits. `launched`, `failed_until`, `quiet_until` and `due` are monotonic seconds."""

    paced: PacedCampaign
    launched: float = -inf
    failed_until: float = -inf
    quiet: float = 0.0
    quiet_until: float = -inf
    claiming: bool = False
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
        self.paced = paced

    def next_claim(self, now: Now) -> float:
        """When to claim next. The monotonic clock holds the pace where the wall clock jumps ahead."""
        campaign = self.paced.campaign
        if self.claiming or campaign.state is not CampaignState.STARTED or now.wall >= campaign.end_at:
            return inf
        launch = pacing.next_launch(campaign.pacing, campaign.last_launch_at, now.wall)
        allowed = max(campaign.begin_at, launch)
        if self.closed is not None and self.closed[0] <= now.wall < self.closed[1]:
            allowed = max(allowed, self.closed[1])
        due = now.mono + max(timedelta(), allowed - now.wall).total_seconds()
        return max(due, self.paced_until, self.failed_until, self.quiet_until)

    def close(self, now: Now) -> None:
        """The rules forbid a claim: remember until when, if the hours are why."""
        campaign = self.paced.campaign
        special = (campaign.special_dates, campaign.special_windows)
        opens_at = calendar.next_open(
            campaign.windows, now.wall, calendar.zone(self.paced.time_zone), *special
        )
        self.closed = (now.wall, opens_at or campaign.end_at)
        self.failed_until = now.mono + _STEP

    def rest(self, now: Now) -> None:
        """Nothing was due: look again later, and later still."""
        self.quiet = min(max(RETRY, 2 * self.quiet), LONGEST_QUIET)
        self.quiet_until = now.mono + self.quiet


def _hours(paced: PacedCampaign) -> tuple[object, ...]:
    """What decides when calls may be placed, but for the dates of the campaign."""
    campaign = paced.campaign
    return campaign.windows, campaign.special_dates, campaign.special_windows, paced.time_zone


class ClaimSchedule:
    """The lines of all campaigns; at most `limit` claims at the same time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._claiming = 0
        self._lines: dict[Key, _Line] = {}
        self._due: list[tuple[float, Key]] = []

    def load(self, campaigns: Iterable[PacedCampaign], now: Now) -> None:
        """Take the started campaigns; one that is gone is kept only as long as its last launch counts."""
        before, self._lines, self._due = self._lines, {}, []
        for paced in campaigns:
            key = (paced.campaign.vdn_id, paced.campaign.campaign_id)
            line = self._lines[key] = before.pop(key) if key in before else _Line(paced)
            line.take(paced)
        for key, line in before.items():
            if line.claiming or line.paced_until > now.mono:
                gone = replace(line.paced.campaign, state=CampaignState.SUSPENDED)
                line.take(replace(line.paced, campaign=gone))
                self._lines[key] = line
        for key in self._lines:
            self._line_up(key, now)

    def claims(self, now: Now) -> list[Claim]:
        """The claims that are due."""
        found: list[Claim] = []
        while self._due and self._due[0][0] <= now.mono and self._claiming < self._limit:
            due, key = heappop(self._due)
            line = self._lines.get(key)
            if line is None or line.due != due:
                continue
            if pacing.allowance(line.paced.campaign, line.paced.time_zone, now.wall):
                line.claiming, line.due = True, inf
                self._claiming += 1
                found.append(Claim(*key))
            else:
                line.close(now)
                self._line_up(key, now)
        return found

    def next_due(self) -> float:
        """The monotonic time of the next claim; infinite while none may begin."""
        return self._due[0][0] if self._due and self._claiming < self._limit else inf

    def claimed(self, event: Claimed, now: Now) -> bool:
        """A claim has committed; False when none was under way."""
        line = self._lines.get(event.key)
        if line is None or not line.claiming:
            return False
        if event.paced is None:
            line.failed_until = now.mono + RETRY
        else:
            line.take(event.paced)
        if event.attempts:
            line.launched, line.quiet = now.mono, 0.0
        elif event.empty:
            line.rest(now)
        elif event.paced is not None:
            line.failed_until = now.mono + _STEP
        self._over(event.key, line, now)
        return True

    def failed(self, key: Key, now: Now) -> None:
        """A claim has failed."""
        line = self._lines.get(key)
        if line is not None and line.claiming:
            line.failed_until = now.mono + RETRY
            self._over(key, line, now)

    def look_again(self, key: Key, now: Now) -> None:
        """A number of this campaign is about to be ready again."""
        line = self._lines.get(key)
        if line is not None and line.quiet:
            line.quiet, line.quiet_until = 0.0, min(line.quiet_until, now.mono + RETRY)
            self._line_up(key, now)

    def _over(self, key: Key, line: _Line, now: Now) -> None:
        line.claiming = False
        self._claiming -= 1
        self._line_up(key, now)

    def _line_up(self, key: Key, now: Now) -> None:
        line = self._lines[key]
        line.due = line.next_claim(now)
        if line.due < inf:
            heappush(self._due, (line.due, key))
