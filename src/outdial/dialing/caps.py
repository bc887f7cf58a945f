"""How often one number may be called by all campaigns of a VDN: in a minute, an hour, a day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Final

from outdial import calendar
from outdial.model import Caps

MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)


def allowed_at(calls: Sequence[datetime], caps: Caps, now: datetime, tz: tzinfo) -> datetime:
    """When the number may be called again that was called at these moments; `now` when it may already.

    Minute and hour slide; the day is the VDN's. Calls in the future (the clock went back) go on counting.
    """
    moments = [now]
    for cap, span in ((caps.per_minute, MINUTE), (caps.per_hour, HOUR)):
        if cap is not None and len(calls) >= cap:
            moments.append(sorted(calls)[-cap] + span)
    today = calendar.period_start("day", now, tz)
    if caps.per_day is not None and sum(at >= today for at in calls) >= caps.per_day:
        moments.append(calendar.period_end("day", now, tz))
    return max(moments)


def counts_since(now: datetime, tz: tzinfo) -> datetime:
    """Calls before this moment count for nothing any more."""
    return min(now - HOUR, calendar.period_start("day", now, tz))


def given_back(calls: Sequence[datetime], withdrawn: Sequence[datetime]) -> list[datetime]:
    """The calls without those that never left."""
    left = list(calls)
    for at in withdrawn:
        if at in left:
            left.remove(at)
    return left
