"""The blacklist: add, delete one, delete all, query (wire/data-api.md §7; semantics.md §8)."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import Any

from outdial import calendar, jsontext
from outdial.errors import Code, Refusal
from outdial.model import BlacklistEntry, Edition, Vdn
from outdial.service import Service
from outdial.wire import envelope
from outdial.wire.fields import (
    Integer,
    LocalTime,
    OneOf,
    RawObject,
    Text,
    an_object,
    instant,
    missing,
    wrong_type,
)

MAX_NUMBERS = 20

_DIGITS = "^0-9*#"
_OF = "ASCII digits, * and #"
NUMBER = Text("blocklistNo", 24, forbidden=_DIGITS, of=_OF, mandatory=True)
EXPIRATION = LocalTime("validityExpirationTime")
VALIDITY = Integer("validityTime", 1, 120)
VALIDITY_UNIT = OneOf("validityTimeUnit", (1, 2, 3, 4))
RESTRICT_TIMES = Integer("restrictTimes", 1, 100)
RESTRICT_PERIOD = OneOf("restrictPeriod", ("0", "1"))
COVER = OneOf("isCoverDupNo", (0, 1))
OFFSET = Integer("offset", 0, 2**31 - 1)
LIMIT = Integer("limit", 1, 100)

PERIODS = {"0": "hour", "1": "day"}
_MONTHS = {1: 12, 2: 1}


async def add(service: Service, vdn: Vdn, body: bytes, now: datetime) -> bytes:
    """POST .../blocklist/add: all numbers or none. Raises `Refusal`, `NotJson`."""
    raw = an_object(jsontext.decode(body), "the body")
    numbers = _numbers(raw)
    tz = calendar.zone(vdn.time_zone)
    later = vdn.edition is Edition.Y2025
    expires_at = _expiry(raw, now, tz, VALIDITY_UNIT.read(raw) if later else None)
    times, period = RESTRICT_TIMES.read(raw), RESTRICT_PERIOD.read(raw)
    if (times is None) != (period is None):
        raise Refusal(Code.COMBINATION, "restrictTimes and restrictPeriod must be set together")
    cover = COVER.read(raw) if later else None
    entries = [
        BlacklistEntry(vdn.vdn_id, number, expires_at, times, PERIODS.get(period)) for number in numbers
    ]
    await service.add_to_blacklist(vdn, entries, overwrite=cover == 1)
    return envelope.success("add blocklist success")


def _numbers(raw: RawObject) -> list[str]:
    listed = raw.get("blocklist")
    if listed is None or listed == "":
        raise missing("blocklist")
    if type(listed) is not list:
        raise wrong_type("blocklist", "a list")
    if not listed:
        raise missing("blocklist")
    if len(listed) > MAX_NUMBERS:
        raise Refusal(Code.TOO_MANY_ENTRIES, f"blocklist: {len(listed)} numbers, {MAX_NUMBERS} are allowed")
    found: list[str] = []
    for place, value in enumerate(listed):
        name = f"blocklist[{place}]"
        rule = Text(name, 24, forbidden=_DIGITS, of=_OF, mandatory=True)
        number = rule.required({name: value})
        if number in found:
            raise Refusal(Code.DUPLICATE, f"{name}: the same number as blocklist[{found.index(number)}]")
        found.append(number)
    return found


def _expiry(raw: RawObject, now: datetime, tz: tzinfo, unit: int | None) -> datetime | None:
    """The moment at which the entry ends; `validityExpirationTime` wins over `validityTime`, in hours."""
    local, validity = EXPIRATION.read(raw), VALIDITY.read(raw)
    if local is not None:
        expires_at = instant(local, tz, EXPIRATION.name)
        if expires_at <= now:
            raise Refusal(Code.VALUE, "validityExpirationTime: has passed")
        return expires_at
    if validity is None:
        return None
    if unit in _MONTHS:
        return calendar.to_utc(_later(now.astimezone(tz).replace(tzinfo=None), validity * _MONTHS[unit]), tz)
    return now + validity * (timedelta(days=1) if unit == 3 else timedelta(hours=1))


def _later(local: datetime, months: int) -> datetime:
    """The same day so many months on, or that month's last."""
    month = local.month - 1 + months
    moved = local.replace(day=1, year=local.year + month // 12, month=month % 12 + 1)
    last = (moved.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    return moved.replace(day=min(local.day, last.day))


async def delete(service: Service, vdn: Vdn, body: bytes) -> bytes:
    """POST .../blocklist/delete: one number; one that is not there is deleted already."""
    raw = an_object(jsontext.decode(body), "the body")
    await service.delete_from_blacklist(vdn.vdn_id, NUMBER.required(raw))
    return envelope.success("delete blocklist success")


async def clear(service: Service, vdn: Vdn) -> bytes:
    """DELETE .../blocklist: every number of the VDN."""
    await service.clear_blacklist(vdn.vdn_id)
    return envelope.success("delete blocklist success")


async def query(service: Service, vdn: Vdn, body: bytes, now: datetime) -> bytes:
    """POST .../blocklist/query: some numbers, or a page of all. Raises `Refusal`, `NotJson`."""
    raw = an_object(jsontext.decode(body), "the body")
    offset, limit = OFFSET.read(raw), LIMIT.read(raw)
    listed = raw.get("blocklist") not in (None, "")
    if listed == (offset is not None or limit is not None):
        raise Refusal(Code.COMBINATION, "either blocklist, or offset and limit")
    if listed:
        entries = await service.store.blacklist.some(vdn.vdn_id, _numbers(raw))
        total = len(entries)
    elif offset is None or limit is None:
        raise missing("offset" if offset is None else "limit")
    else:
        entries, total = await service.store.blacklist.page(vdn.vdn_id, limit=limit, offset=offset)
    tz = calendar.zone(vdn.time_zone)
    data = [_shown(entry, tz, now, with_flag=listed) for entry in entries]
    return envelope.success("query blocklist success", totalCount=total, data=data)


def _shown(entry: BlacklistEntry, tz: tzinfo, now: datetime, *, with_flag: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "blockNum": entry.number,
        "validityExpirationTime": (
            entry.expires_at.astimezone(tz).strftime("%Y-%m-%d %H:%M:%S") if entry.expires_at else None
        ),
        "restrictTimes": entry.restrict_times,
        "restrictPeriod": next((k for k, v in PERIODS.items() if v == entry.restrict_period), None),
    }
    if with_flag:
        shown["flag"] = entry.expires_at is None or entry.expires_at > now
    return shown
