"""Session timers: a call whose far end vanished is noticed (RFC 4028)."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

from outdial.sip.dialog import listed
from outdial.sip.message import Request, Response

TIMER_EXPIRED: Final = 102
"""The Q.850 cause of a call that we end because the far end fell silent."""

MIN_SE: Final = 90
"""Seconds; no shorter interval is accepted (§4)."""

_EXPIRES = re.compile(r"[ \t]*+([0-9]{1,9})[ \t]*+(?:;(.*))?", re.DOTALL)
_REFRESHER = re.compile(r"(?:^|;)[ \t]*+refresher[ \t]*+=[ \t]*+(uac|uas)\b", re.IGNORECASE)


class Due(Enum):
    """What the session needs now."""

    REFRESH = auto()
    END = auto()


class SessionTimer:
    """The interval of one session and who refreshes it. `wanted` seconds are offered; 0 offers no timer."""

    __slots__ = ("_end", "_min_se", "_refresh", "interval", "ours", "wanted")

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.ours = False  # we are the refresher
        self.interval = 0
        self._min_se = MIN_SE
        self._end: float | None = None
        self._refresh: float | None = None

    def offer(self, *, refresh: bool = False) -> list[tuple[str, str]]:
        """The headers of a session refresh request of ours (§7.1); within the session we keep our role."""
        interval = self.interval if refresh and self.interval else self.wanted
        if not interval:
            return []
        refresher = ";refresher=uac" if refresh else ""
        shown = max(interval, self._min_se)
        return [("Session-Expires", f"{shown}{refresher}"), ("Min-SE", str(self._min_se))]

    def raised(self, response: Response) -> bool:
        """A 422 names a longer interval than was offered: offer that (§7.4). False: it names none."""
        asked = _seconds(response.get("Min-SE"))
        if (
            not (self.wanted or self.interval)
            or asked is None
            or asked <= max(self._min_se, self.interval or self.wanted)
        ):
            return False
        self._min_se = self.wanted = asked
        self.interval = max(self.interval, asked) if self.interval else 0
        return True

    def agreed(self, response: Response, now: float) -> None:
        """A 2xx to a session refresh request of ours (§7.2)."""
        interval = _seconds(response.get("Session-Expires"))
        if not interval:
            self.stop()
            return
        self._start(max(interval, MIN_SE), _refresher(response) != "uas", now)

    def too_short(self, request: Request) -> bool:
        """The far end wants an interval below our minimum: 422 (§9)."""
        interval = _seconds(request.get("Session-Expires"))
        return interval is not None and interval < MIN_SE

    def asked(self, request: Request, now: float) -> list[tuple[str, str]]:
        """A session refresh request of the far end: the headers of its 2xx (§9).

        The far end refreshes unless it wants us to. A request without an interval leaves the refreshing to
        us, where it was ours, else it ends the timer.
        """
        interval = _seconds(request.get("Session-Expires"))
        if interval is None:
            return self._unasked(now)
        speaks = "timer" in [tag.lower() for tag in listed(request, "Supported")]
        ours = _refresher(request) == "uas" or not speaks
        self._start(interval, ours, now)
        refresher = "uas" if ours else "uac"
        required = [("Require", "timer")] if speaks else []
        return [*required, ("Session-Expires", f"{interval};refresher={refresher}")]

    def _unasked(self, now: float) -> list[tuple[str, str]]:
        if not (self.ours and self.interval):
            self.stop()
            return []
        self._start(self.interval, True, now)
        return [("Session-Expires", f"{self.interval};refresher=uas")]

    def failed(self, now: float) -> None:
        """A refresh was refused for now: try once more in half of the time that is left."""
        if self._end is not None:
            self._refresh = now + max(1.0, (self._end - now) / 2)

    def postpone(self, at: float) -> None:
        """Refresh at `at` instead."""
        self._refresh = at

    def pop(self, now: float) -> Due | None:
        """What is due. A side that heard no refresh ends the call a little early (§10)."""
        if self._end is not None and now >= self._end:
            self.stop()
            return Due.END
        if self._refresh is not None and now >= self._refresh:
            self._refresh = None
            return Due.REFRESH
        return None

    def wake_at(self) -> float | None:
        """When `pop` has something."""
        if self._end is None or self._refresh is None:
            return self._refresh if self._end is None else self._end
        return min(self._end, self._refresh)

    def _start(self, interval: int, ours: bool, now: float) -> None:
        self.interval, self.ours = interval, ours
        self._end = now + interval - min(32.0, interval / 3)
        self._refresh = now + interval / 2 if ours else None

    def stop(self) -> None:
        """No timer runs."""
        self.interval, self.ours = 0, False
        self._end = self._refresh = None


def _seconds(value: str | None) -> int | None:
    match = _EXPIRES.fullmatch(value) if value else None
    return int(match[1]) if match else None


def _refresher(message: Request | Response) -> str | None:
    match = _EXPIRES.fullmatch(message.get("Session-Expires") or "")
    found = _REFRESHER.search(match[2] or "") if match else None
    return found[1].lower() if found else None
