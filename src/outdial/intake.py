"""Every rule about a batch of numbers, without I/O: the editions as data, and the order of codes.

The facts come from one SQL statement (`store/queries/numbers.sql`, admit), found under the campaign's row
lock; which code answers is decided here and nowhere else (semantics.md §3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from outdial.errors import Code, Refusal
from outdial.model import CallData, CampaignState, DeviceType, Duplicates, Edition

MAX_ENTRIES = 20
"""Entries of one add (contract, Table 3)."""

MAX_INCOMPLETE = 200_000
"""Incomplete numbers of one campaign (contract, Restrictions)."""


@dataclass(frozen=True, slots=True)
class IntakePolicy:
    """What an edition says about adding numbers (semantics.md §1)."""

    accepting: tuple[CampaignState, ...]  # stored states that take numbers, besides "before its begin time"
    restricted_passes: bool  # a restricted blacklist entry that is not used up lets the number in
    answers_ids: bool
    reads_priority: bool
    success: str


POLICIES = {
    Edition.Y2023: IntakePolicy(
        accepting=(CampaignState.DRAFT, CampaignState.SUSPENDED),
        restricted_passes=True,
        answers_ids=False,
        reads_priority=False,
        success="",
    ),
    Edition.Y2025: IntakePolicy(
        accepting=(CampaignState.DRAFT, CampaignState.SUSPENDED, CampaignState.STARTED),
        restricted_passes=False,
        answers_ids=True,
        reads_priority=True,
        success="create data succeeded",
    ),
}


class Facts(msgspec.Struct, frozen=True):
    """What the store knows about one add at the moment of its judgement.

    `blacklisted` and `repeated` are positions of an entry, from 0. `repeated`: still incomplete in a
    campaign that refuses such numbers. `no_object`: the first entry whose call data is no JSON object.
    """

    found: bool
    device_type: int = 0
    state: str = ""
    begin_at: datetime | None = None
    end_at: datetime | None = None
    now: datetime | None = None
    takes_numbers: bool = False
    too_soon: bool = False
    incomplete: int = 0
    duplicates: str = Duplicates.ALLOW
    blacklisted: int | None = None
    repeated: int | None = None
    no_object: int | None = None


class Admitted(msgspec.Struct, frozen=True):
    """The effect of an accepted add; `contact_ids`, where the edition answers them, as `called`."""

    total_size: int
    called: Sequence[str] = ()
    contact_ids: Sequence[int] | None = None
    replayed: bool = False


def check_unique(entries: Sequence[CallData]) -> None:
    """The called numbers of one request are unique (contract, Restrictions). Raises `Refusal` 0200018."""
    if len({entry.called for entry in entries}) == len(entries):
        return
    seen: dict[str, int] = {}
    for position, entry in enumerate(entries):
        first = seen.setdefault(entry.called, position)
        if first != position:
            raise Refusal(
                Code.DUPLICATE,
                f"callDataList[{position}].called: the same number as callDataList[{first}].called",
            )


def verdict(facts: Facts, added: int) -> Refusal | None:
    """The refusal that answers, by the order of codes, or None: the add is accepted."""
    for judge in ORDER:
        refusal = judge(facts, added)
        if refusal is not None:
            return refusal
    return None


def _exists(facts: Facts, added: int) -> Refusal | None:
    if facts.found:
        return None
    return Refusal(Code.NOT_FOUND, "campaignId: no such campaign in this VDN")


def _call_data(facts: Facts, added: int) -> Refusal | None:
    if facts.no_object is None or facts.device_type != DeviceType.INTELLIGENT_IVR:
        return None
    return Refusal(
        Code.VALUE,
        f"callDataList[{facts.no_object}].callData: an intelligent IVR campaign needs JSON text of an object",
    )


def _state(facts: Facts, added: int) -> Refusal | None:
    if facts.takes_numbers:
        return None
    if facts.state == CampaignState.ENDED or (facts.now and facts.end_at and facts.now >= facts.end_at):
        return Refusal(Code.STATE_TAKES_NO_NUMBERS, "the campaign has ended: it takes no more numbers")
    shown = "executing" if facts.incomplete else "call completed"
    return Refusal(Code.STATE_TAKES_NO_NUMBERS, f"the campaign is {shown}: pause it, add, resume")


def _interval(facts: Facts, added: int) -> Refusal | None:
    if not facts.too_soon:
        return None
    return Refusal(
        Code.TOO_SOON, "less than 1 second since the last accepted add to this campaign: wait, then repeat"
    )


def _blacklist(facts: Facts, added: int) -> Refusal | None:
    if facts.blacklisted is None:
        return None
    return Refusal(
        Code.BLACKLISTED, f"callDataList[{facts.blacklisted}].called: the number is in the blacklist"
    )


def _repeated(facts: Facts, added: int) -> Refusal | None:
    if facts.repeated is None:
        return None
    return Refusal(
        Code.DUPLICATE,
        f"callDataList[{facts.repeated}].called: still incomplete in this campaign, which refuses that",
    )


def _limit(facts: Facts, added: int) -> Refusal | None:
    if facts.incomplete + added <= MAX_INCOMPLETE:
        return None
    return Refusal(
        Code.TOO_MANY_INCOMPLETE,
        f"{facts.incomplete} numbers are incomplete and {added} more would pass {MAX_INCOMPLETE}",
    )


ORDER: tuple[Callable[[Facts, int], Refusal | None], ...] = (
    _exists,
    _call_data,
    _state,
    _interval,
    _blacklist,
    _repeated,
    _limit,
)
"""The order of codes under the row lock (semantics.md §3, step 5)."""
