"""The one error type of the house and the code book of the wire.

Every rule that refuses raises or returns a `Refusal`; `web/app.py` maps it once. What the store or a
switch cannot do has an exception of its own, because the answer then depends on what is certain.
"""

from __future__ import annotations

from enum import Enum


class Code(Enum):
    """Result codes of the interface (contract, Table 7; wire/campaign-api.md; wire/data-api.md).

    The value is the wire code and the general sentence of the code.
    """

    OK = ("0200000", "")
    NO_CAMPAIGN = ("0200-01", "the campaign does not exist")
    PARAMETER = ("0200001", "parameter error")
    BEGIN_TOO_EARLY = ("0200002", "begin time is earlier than today 00:00")
    SKILL_CAP = ("0200003", "too many active skill-queue campaigns")
    IVR_CAP = ("0200004", "too many active IVR campaigns")
    NAME_EXISTS = ("0200005", "the name exists")
    DATABASE = ("0200006", "database operation error")
    NOT_FOUND = ("0200007", "the outbound campaign does not exist")
    STILL_STARTED = ("0200009", "the campaign is still started")
    STATE_FORBIDS = ("0200011", "the current state does not allow this")
    DATE_NAME_EXISTS = ("0200013", "the name of the special date exists")
    TOO_MANY_DATES = ("0200015", "the upper limit of special dates has been reached")
    ALREADY_ENDED = ("0200016", "the campaign has ended")
    DUPLICATE = ("0200018", "duplicate numbers exist")
    STATE_TAKES_NO_NUMBERS = ("0200019", "the number cannot be added in the current state")
    TOO_MANY_INCOMPLETE = ("0200020", "the number quantity exceeds the upper limit 200,000")
    TOO_SOON = ("0200022", "the interface invoking time is short")
    BLACKLISTED = ("0200024", "the number to be added is in the blacklist")
    TOO_MANY_ENTRIES = ("0200029", "the maximum number of numbers that can be added each time is exceeded")
    TIME_FORMAT = ("0200030", "the time format is incorrect")
    EMPTY = ("02000001", "empty parameter")
    CHARACTERS = ("02000002", "the parameter contains invalid characters")
    TOO_LONG = ("02000003", "the parameter is too long")
    TYPE = ("02000006", "incorrect parameter type")
    VALUE = ("02000007", "incorrect parameter value")
    COMBINATION = ("02000009", "incorrect parameter combination")

    @property
    def wire(self) -> str:
        """The code as it stands in `resultCode`."""
        return self.value[0]

    @property
    def sentence(self) -> str:
        """What the code means, whatever the place."""
        return self.value[1]


class Refusal(Exception):
    """A rule said no: nothing was stored.

    `code` is the rule's code, `detail` names the place, the rule and, where it helps, the way out. It
    never holds more than the last 4 characters of a value (semantics.md §2).
    """

    def __init__(self, code: Code, detail: str = "") -> None:
        self.code = code
        self.detail = detail or code.sentence
        super().__init__(f"{code.wire}: {self.detail}")


class StoreUnavailable(Exception):
    """The store cannot be reached, is full or too slow, and it is certain that nothing was kept."""


class CommitUnknown(Exception):
    """The fate of a COMMIT could not be learned in time: the caller gets no answer (guarantee G2)."""


class SwitchError(Exception):
    """The switch is not connected or refused an order before anything reached a carrier."""


class SettingError(Exception):
    """A setting, an option or the environment is wrong; the message names it and what is allowed."""
