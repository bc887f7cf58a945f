"""What can go wrong with a request: one class for each code, and the way out in each message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from outdial.errors import Code
from outdial.signing import WINDOW

if TYPE_CHECKING:
    from outdial.client.numbers import AddReport, Chunk


class ClientError(Exception):
    """A request did not succeed.

    `code` is the interface's result code, or None when no readable answer came; `description` is what the
    server or the client says about this case, `hint` the way out. `http_status` and `request_id` (header
    X-Request-Id) are None when the answer did not bring them. `chunk` and `report` are set by adds: the
    numbers that this is about, and by `add_numbers` which numbers are in and which are not.
    """

    hint: str = ""

    def __init__(
        self,
        code: str | None,
        description: str,
        http_status: int | None = None,
        request_id: str | None = None,
        *,
        hint: str | None = None,
    ) -> None:
        self.code = code
        self.description = description
        self.http_status = http_status
        self.request_id = request_id
        self.chunk: Chunk | None = None
        self.report: AddReport | None = None
        if hint is not None:
            self.hint = hint
        said = f"{code}: {description}" if code else description
        super().__init__(f"{said}; {self.hint}" if self.hint else said)


class NotConnected(ClientError):
    """No connection came about: nothing was sent."""

    hint = "is the server running, and the url (OUTDIAL_URL) its address?"


class CertificateError(ClientError):
    """The server's certificate is not one to trust: nothing was sent."""


class NoAnswer(ClientError):
    """The connection was lost or the time was up before the answer: the request's fate is unknown."""

    hint = "whether it took effect is not known"


class UnexpectedAnswer(ClientError):
    """The answer is not one of this interface: another server, or a proxy, has spoken."""

    hint = "does the url (OUTDIAL_URL) lead to an outdial server?"


class ServerFault(ClientError):
    """HTTP status 500 and above with a code of the interface: the server's own fault."""

    hint = "give the request id to whoever runs the server"


class Busy(ClientError):
    """HTTP status 429 or 503: the server takes no request now. `retry_after` is in seconds, or None."""

    hint = "nothing was done; try again later"
    retry_after: float | None = None


class Refused(ClientError):
    """The server said no and changed nothing. The classes below are one for each code."""

    codes: ClassVar[tuple[Code, ...]] = ()


class AuthenticationError(Refused):
    """HTTP status 401: the key, its secret, the VDN, or this machine's clock is wrong."""


class DatabaseUnavailable(Refused):
    """0200006: the server's store cannot be reached, is full or too slow; nothing was kept."""

    codes = (Code.DATABASE,)
    hint = "nothing was kept; try again later"


class ParameterError(Refused):
    """0200001, and through its subclasses every code for a field: the request itself is wrong."""

    codes = (Code.PARAMETER,)


class WrongTime(ParameterError):
    """0200030: a time is not a real one, or in another form."""

    codes = (Code.TIME_FORMAT,)
    hint = "write yyyy-mm-dd hh:mm:ss"


class EmptyParameter(ParameterError):
    """02000001: a mandatory field is missing, null or empty."""

    codes = (Code.EMPTY,)
    hint = "give the field a value"


class InvalidCharacters(ParameterError):
    """02000002: a character is forbidden in this field."""

    codes = (Code.CHARACTERS,)
    hint = "leave the characters out"


class ParameterTooLong(ParameterError):
    """02000003: longer than the field allows, in code points."""

    codes = (Code.TOO_LONG,)
    hint = "shorten it"


class WrongType(ParameterError):
    """02000006: another JSON type than the field has."""

    codes = (Code.TYPE,)
    hint = "give it the type that is named"


class WrongValue(ParameterError):
    """02000007: a value outside its range or list."""

    codes = (Code.VALUE,)
    hint = "give a value that is allowed"


class WrongCombination(ParameterError):
    """02000009: fields that exclude or need one another."""

    codes = (Code.COMBINATION,)
    hint = "give those that go together; to another body another Idempotency-Key"


class TooManyEntries(ParameterError):
    """0200029: more entries than one request may hold."""

    codes = (Code.TOO_MANY_ENTRIES,)
    hint = "send them in parts"


class CampaignNotFound(Refused):
    """0200007, 0200-01: the campaign, or its special date, is not there or is another VDN's."""

    codes = (Code.NOT_FOUND, Code.NO_CAMPAIGN)
    hint = "look it up with list_campaigns"


class AlreadyBlacklisted(Refused):
    """0200007 of an add to the blacklist in edition 2023-09: a number is there already, none was added."""

    hint = "leave it out; query_blacklist finds it"


class DuplicateNumbers(Refused):
    """0200018: a number stands twice in a request, or is still incomplete where the campaign refuses that."""

    codes = (Code.DUPLICATE,)
    hint = "send each number once; wait until it is done"


class NumberBlacklisted(Refused):
    """0200024: a number is on the blacklist."""

    codes = (Code.BLACKLISTED,)
    hint = "leave the number out, or take it off the blacklist"


class TooFast(Refused):
    """0200022: less than a second since the last accepted add to this campaign."""

    codes = (Code.TOO_SOON,)
    hint = "wait a second; add_numbers does"


class StateTakesNoNumbers(Refused):
    """0200019: the campaign's state takes no numbers."""

    codes = (Code.STATE_TAKES_NO_NUMBERS,)
    hint = "one that is executing or ended takes none"


class TooManyIncomplete(Refused):
    """0200020: the campaign would have more than 200,000 incomplete numbers."""

    codes = (Code.TOO_MANY_INCOMPLETE,)
    hint = "wait until calls are done, or use another campaign"


class BeginsTooEarly(Refused):
    """0200002: the begin is before 00:00 of today."""

    codes = (Code.BEGIN_TOO_EARLY,)
    hint = "begin today or later"


class TooManySkillCampaigns(Refused):
    """0200003: too many skill-queue campaigns are active."""

    codes = (Code.SKILL_CAP,)
    hint = "end or delete one"


class TooManyIvrCampaigns(Refused):
    """0200004: too many IVR campaigns are started or suspended."""

    codes = (Code.IVR_CAP,)
    hint = "end or delete one, or create a draft"


class NameExists(Refused):
    """0200005: another campaign of the VDN has this name."""

    codes = (Code.NAME_EXISTS,)
    hint = "take another name"


class StillStarted(Refused):
    """0200009: a started campaign cannot be deleted."""

    codes = (Code.STILL_STARTED,)
    hint = "pause it, then delete it"


class StateForbids(Refused):
    """0200011: the campaign's state does not allow to pause or resume it."""

    codes = (Code.STATE_FORBIDS,)
    hint = "show_campaign tells its state"


class CampaignEnded(Refused):
    """0200016: the campaign has ended, which is final."""

    codes = (Code.ALREADY_ENDED,)
    hint = "create another one"


class DateNameExists(Refused):
    """0200013: another special date of the VDN has this name."""

    codes = (Code.DATE_NAME_EXISTS,)
    hint = "take another name, or use that one by its id"


class TooManySpecialDates(Refused):
    """0200015: the campaign has 20 special dates."""

    codes = (Code.TOO_MANY_DATES,)
    hint = "delete one, or let one cover several days"


OF_ITS_NUMBERS = (ParameterError, DuplicateNumbers, NumberBlacklisted)
"""Refusals of a chunk that say nothing about the next one."""


def _family(parent: type[Refused]) -> list[type[Refused]]:
    return [parent, *(one for child in parent.__subclasses__() for one in _family(child))]


_BY_CODE = {code.wire: one for one in _family(Refused) for code in one.codes}


def refusal_class(code: str, target: str) -> type[Refused]:
    """The class of a code that `target` (path and query) answered; `Refused` for one that is not known."""
    if code == Code.NOT_FOUND.wire and target.endswith("/blocklist/add"):
        return AlreadyBlacklisted
    return _BY_CODE.get(code, Refused)


def way_into(server_time: datetime | None, now: datetime) -> str:
    """The way out of a 401: the clock, where it is off by more than a signature allows, else the key."""
    off = now - server_time if server_time else timedelta(0)
    if server_time is not None and abs(off) >= WINDOW - timedelta(seconds=1):
        minutes, where = round(abs(off) / timedelta(minutes=1)), "ahead" if off > timedelta(0) else "behind"
        shown = server_time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        return (
            f"this machine's clock is {minutes} minutes {where}: the server has {shown} UTC;"
            f" set the clock, {WINDOW // timedelta(minutes=1)} minutes are allowed"
        )
    wrong = "check the access key, its secret and the VDN (OUTDIAL_AK, OUTDIAL_SK, OUTDIAL_VDN)"
    return wrong if server_time is not None else f"{wrong}, and this machine's clock"
