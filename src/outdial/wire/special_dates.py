"""Special dates: list, add, modify, delete one, delete all (wire/campaign-api.md §4.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from outdial import jsontext
from outdial.errors import Code, Refusal
from outdial.model import SpecialDate, SpecialDateKind, Vdn
from outdial.service import Service
from outdial.wire import envelope
from outdial.wire.fields import Integer, OneOf, RawObject, Text, an_object, missing, wrong_type

ID = Integer("id", 1, 2**63 - 1)
NAME = Text("name", 30, mandatory=True)
TYPE = OneOf("type", tuple(int(kind) for kind in SpecialDateKind), mandatory=True)
WEEK = Text("week", 13, forbidden="^0-9,", of="digits and commas", mandatory=True)

_WEEK: Final = re.compile(r"[1-7](,[1-7])*")
_LEAP_YEAR: Final = "2000-"
_FORMS: Final = {SpecialDateKind.DATES: "yyyy-MM-dd", SpecialDateKind.YEARLY: "MM-dd"}


@dataclass(frozen=True, slots=True)
class Day:
    """A real day in the form of its kind (0200030)."""

    name: str

    def required(self, raw: RawObject, kind: SpecialDateKind) -> str:
        """The day as it was written. Raises `Refusal`."""
        value = raw.get(self.name)
        if value is None or value == "":
            raise missing(self.name)
        if type(value) is not str:
            raise wrong_type(self.name, "a string")
        whole = _LEAP_YEAR + value if kind is SpecialDateKind.YEARLY else value
        try:
            if date.fromisoformat(whole).isoformat() == whole:
                return value
        except ValueError:
            pass
        raise Refusal(Code.TIME_FORMAT, f"{self.name}: not a real day in the form {_FORMS[kind]}")


BEGIN = Day("beginTime")
END = Day("endTime")


async def query(service: Service, vdn: Vdn, campaign_id: int) -> bytes:
    """GET .../holiday/{campaignId}. Raises `Refusal` 0200007."""
    found = await service.campaign(vdn.vdn_id, campaign_id)
    return envelope.success("query special dates success", data=[_shown(one) for one in found.special_dates])


async def add(service: Service, vdn: Vdn, campaign_id: int, body: bytes) -> bytes:
    """POST .../holiday/{campaignId}: a new one, or by `id` one that is there. Raises `Refusal`."""
    raw = an_object(jsontext.decode(body), "the body")
    known = ID.read(raw)
    if known is not None:
        await service.use_special_date(vdn.vdn_id, campaign_id, known)
        return envelope.success("add special date success", returnObject={"id": known})
    made = await service.add_special_date(vdn.vdn_id, campaign_id, _special_date(raw))
    return envelope.success("add special date success", returnObject={"id": made})


async def modify(service: Service, vdn: Vdn, campaign_id: int, body: bytes) -> bytes:
    """PUT .../holiday/{campaignId}, for every campaign that uses it. Raises `Refusal`, `NotJson`."""
    raw = an_object(jsontext.decode(body), "the body")
    special_date_id = ID.read(raw)
    if special_date_id is None:
        raise missing(ID.name)
    await service.modify_special_date(vdn.vdn_id, campaign_id, _special_date(raw, special_date_id))
    return envelope.success("modify special date success")


async def delete(service: Service, vdn: Vdn, campaign_id: int, special_date_id: int | None) -> bytes:
    """DELETE .../holiday/{campaignId}[/{id}]: one, or all of the campaign. Raises `Refusal` 0200007."""
    await service.delete_special_dates(vdn.vdn_id, campaign_id, special_date_id)
    return envelope.success("delete special date success")


def _special_date(raw: RawObject, special_date_id: int = 0) -> SpecialDate:
    name = NAME.required(raw)
    kind = SpecialDateKind(TYPE.required(raw))
    if kind is SpecialDateKind.WEEKLY:
        return SpecialDate(special_date_id, name, kind, weekdays=_weekdays(raw))
    first, last = BEGIN.required(raw, kind), END.required(raw, kind)
    if kind is SpecialDateKind.DATES and last < first:
        raise Refusal(Code.COMBINATION, "endTime: must not be earlier than beginTime")
    return SpecialDate(special_date_id, name, kind, first=first, last=last)


def _weekdays(raw: RawObject) -> tuple[int, ...]:
    text = WEEK.required(raw)
    days = tuple(sorted(int(day) for day in text.split(","))) if _WEEK.fullmatch(text) else ()
    if not days or len(set(days)) < len(days):
        raise Refusal(Code.VALUE, "week: must be days of 1 (Monday) to 7 (Sunday), each once, with commas")
    return days


def _shown(one: SpecialDate) -> dict[str, Any]:
    return {
        "id": one.special_date_id,
        "name": one.name,
        "type": int(one.kind),
        "week": ",".join(map(str, one.weekdays)) or None,
        "beginTime": one.first or None,
        "endTime": one.last or None,
    }
