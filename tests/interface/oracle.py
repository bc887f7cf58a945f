"""A second, plain telling of the rules for the state machine: what must be answered, by sets and lists.

It shares no code with the server. Times are monotonic seconds of the client, so the 1-second rule has three
answers: surely too soon, surely not, or too close to tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OK = "0200000"
LIMIT = 200_000
PAST, WITHIN, BEFORE = "past", "within", "before"
RESUMABLE, PAUSABLE = ("draft", "suspended"), ("started",)


@dataclass
class Number:
    """A stored number."""

    called: str
    done: bool = False


@dataclass
class Told:
    """An accepted add, as it was answered."""

    body: bytes
    answer: bytes


@dataclass(eq=False)
class Campaign:
    """What the oracle knows of a campaign."""

    id: int
    name: str
    device_type: int
    state: str
    duplicates: str
    dates: str = WITHIN
    numbers: list[Number] = field(default_factory=list)
    filling: int = 0
    accepted: tuple[float, float] | None = None  # before sending, after reading the last accepted add
    deleted: bool = False
    keys: dict[str, Told] = field(default_factory=dict)

    @property
    def incomplete(self) -> int:
        return self.filling + sum(not number.done for number in self.numbers)

    @property
    def shown(self) -> str:
        if self.state == "ended" or self.dates == PAST:
            return "ended"
        return self.state

    @property
    def active(self) -> bool:
        return self.shown in ("started", "suspended") and not self.deleted

    @property
    def standing(self) -> str:
        if self.shown != "started":
            return self.shown
        if self.dates == BEFORE:
            return "not started"
        return "executing" if self.incomplete else "call completed"


@dataclass
class World:
    """A VDN: its campaigns and its blacklist (number -> plain, expired, free or used)."""

    edition: str
    max_active: int
    campaigns: list[Campaign] = field(default_factory=list)
    blacklist: dict[str, str] = field(default_factory=dict)

    # -- verbs -------------------------------------------------------------------------------------------

    def create(self, name: str, status: int) -> str:
        living = [campaign for campaign in self.campaigns if not campaign.deleted]
        if status != 1 and sum(campaign.active for campaign in living) >= self.max_active:
            return "0200004"
        if name in [campaign.name for campaign in living]:
            return "0200005"
        return OK

    def resume(self, campaign: Campaign) -> str:
        if campaign.deleted:
            return "0200007"
        if campaign.shown not in RESUMABLE:
            return "0200011"
        if campaign.state == "draft" and sum(c.active for c in self.campaigns) >= self.max_active:
            return "0200004"
        return OK

    def pause(self, campaign: Campaign) -> str:
        if campaign.deleted:
            return "0200007"
        return OK if campaign.shown in PAUSABLE else "0200011"

    def delete(self, campaign: Campaign) -> str:
        if campaign.deleted:
            return "0200007"
        return "0200009" if campaign.shown == "started" else OK

    def list_number(self, number: str) -> str:
        if self.edition == "2023-09" and self.blacklist.get(number, "expired") != "expired":
            return "0200007"
        return OK

    def delete_number(self, campaign: Campaign) -> str:
        if campaign.deleted:
            return "0200007"
        return "0200011" if campaign.standing == "executing" else OK

    # -- adding numbers ----------------------------------------------------------------------------------

    def add(self, campaign: Campaign, entries: Any, span: tuple[float, float]) -> set[str]:
        """The codes that may answer an add that was sent and read at these times."""
        early = self._before_the_lock(campaign, entries)
        if early != OK:
            return {early}
        entries = self.kept(campaign, entries)
        certain = self._state(campaign, entries)
        if certain != OK:
            return {certain}
        later = self._after_the_second(campaign, entries)
        if campaign.accepted is None:
            return {later}
        sent, read = campaign.accepted
        if span[1] - sent < 1:
            return {"0200022"}
        return {later} if span[0] - read >= 1 else {later, "0200022"}

    def kept(self, campaign: Campaign, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The entries without those that the campaign skips."""
        if campaign.duplicates != "skip":
            return entries
        present = {number.called for number in campaign.numbers if not number.done}
        return [entry for entry in entries if entry["called"] not in present]

    def _before_the_lock(self, campaign: Campaign, entries: Any) -> str:
        if not isinstance(entries, list):
            return "02000006"
        if not entries:
            return "02000001"
        if len(entries) > 20:
            return "0200029"
        for entry in entries:
            fault = self._entry(entry)
            if fault != OK:
                return fault
        called = [entry["called"] for entry in entries]
        if len(set(called)) < len(called):
            return "0200018"
        if campaign.deleted:
            return "0200007"
        if campaign.device_type == 1 and any(entry.get("callData") == "[]" for entry in entries):
            return "02000007"
        return OK

    def _entry(self, entry: Any) -> str:
        if not isinstance(entry, dict):
            return "02000006"
        if len(entry.get("sessionId") or "") > 32:
            return "02000003"
        called = entry.get("called")
        if not called:
            return "02000001"
        if set(called) - set("0123456789*#"):
            return "02000002"
        if set(entry.get("customField") or "") & set("!?"):
            return "02000002"
        if entry.get("recycleTime") == "soon":
            return "0200030"
        if self.edition == "2025-11" and entry.get("priority") == "9":
            return "02000007"
        return OK

    def _state(self, campaign: Campaign, entries: list[dict[str, Any]]) -> str:
        if campaign.shown == "ended":
            return "0200019"
        executing = campaign.state == "started" and campaign.dates == WITHIN
        return "0200019" if self.edition == "2023-09" and executing else OK

    def _after_the_second(self, campaign: Campaign, entries: list[dict[str, Any]]) -> str:
        stops = ("plain", "used") if self.edition == "2023-09" else ("plain", "used", "free")
        if any(self.blacklist.get(entry["called"]) in stops for entry in entries):
            return "0200024"
        present = {number.called for number in campaign.numbers if not number.done}
        if campaign.duplicates == "refuse" and any(entry["called"] in present for entry in entries):
            return "0200018"
        if campaign.incomplete + len(entries) > LIMIT:
            return "0200020"
        return OK
