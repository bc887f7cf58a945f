"""The bodies of the interface, made of the field rules that judge them."""

from __future__ import annotations

from typing import Final

from outdial.intake import MAX_ENTRIES
from outdial.model import SpecialDateKind
from outdial.wire import (
    blacklist,
    campaign_body,
    campaigns,
    number_deletion,
    numbers,
    results,
    retry,
    special_dates,
)
from outdial.wire.campaign_body import Version
from outdial.wire.fields import ClockTime, OneOf
from outdial.wire.shapes import (
    DayOf,
    Digits,
    Either,
    JsonText,
    ListOf,
    Named,
    NotServed,
    Object,
    mandatory,
)

ENTRY: Final = Object(
    (
        numbers.SESSION_ID,
        numbers.CALLED,
        numbers.CALLER,
        numbers.CUSTOM_FIELD,
        numbers.RECYCLE_TIME,
        numbers.CALL_DATA,
        numbers.PRIORITY,
    )
)
NUMBERS: Final = Object((Named("callDataList", ListOf(ENTRY, 1, MAX_ENTRIES), mandatory=True),))

SCHEDULE: Final = Object(
    tuple(
        ClockTime(name, ends=name == end)
        for begin, end in campaign_body.WINDOW_NAMES
        for name in (begin, end)
    )
)
IVR: Final = Object((campaign_body.DEVICE_SIGN, campaign_body.CALL_COUNT, campaign_body.CALL_INTERVAL))
SERVED_TYPE: Final = OneOf(
    campaign_body.DEVICE_TYPE.name, tuple(int(kind) for kind in campaign_body.SERVED_TYPES), mandatory=True
)
CALLER_LIST: Final = ListOf(
    Object((campaign_body.ACCESS_CODE, campaign_body.PRIORITY)), 1, campaign_body.MAX_CALLER_NUMBERS
)
BY_DAY: Final = Object(
    (
        retry.DATA_TYPE,
        OneOf(retry.TYPE.name, (0,), mandatory=True),
        Named("policy", Object((retry.RETRY_DAY, retry.RETRY_TIME, retry.RETRY_TIMES)), mandatory=True),
    )
)
BY_RESULT: Final = Object(
    (
        retry.DATA_TYPE,
        OneOf(retry.TYPE.name, (1,), mandatory=True),
        Named(
            "policy",
            ListOf(
                Object((retry.RESULT, retry.RETRY_NUMBER, retry.CALL_INTERVAL)), 1, len(retry.RESULTS) - 1
            ),
            mandatory=True,
        ),
    )
)
RETRY: Final = Object(
    (
        retry.POLICY_TYPE,
        Named(
            retry.POLICY_JSON.name,
            JsonText(retry.POLICY_JSON, ListOf(Either((BY_DAY, BY_RESULT)), 0, 1)),
            mandatory=True,
        ),
        Named("noRetryPolicy", ListOf(Digits(retry.FAIL_CODE_LENGTH), 0, retry.MAX_CODES)),
        NotServed("busiPolicy"),
    )
)
CALL_POLICY: Final = Object(
    (
        campaign_body.CALL_TYPE,
        campaign_body.CHOOSE_TYPE,
        Named("turns", ListOf(Object((campaign_body.TURN_TYPE,)), 0, 1)),
    )
)
_OF_V2: Final = (
    campaign_body.PRIORITY,
    Named("retryPolicy", RETRY),
    Named("callPolicy", CALL_POLICY),
    NotServed("callOrder"),
    NotServed("busiPolicy"),
)
_OURS: Final = (
    campaign_body.DUPLICATES,
    campaign_body.ON_UNKNOWN,
    campaign_body.MAX_CPS,
    campaign_body.MAX_CHANNELS,
)


def campaign(version: Version, *, dates: bool, new: bool) -> Object:
    """A campaign's body. `dates`: begin and end are mandatory."""
    first = version is Version.V1
    begin, end = campaign_body.BEGIN, campaign_body.END
    return Object(
        (
            campaign_body.NAME,
            campaign_body.DESCRIPTION,
            mandatory(begin) if dates else begin,
            mandatory(end) if dates else end,
            SERVED_TYPE,
            campaign_body.CALLER_NO if first else Named("callerNo", CALLER_LIST, mandatory=True),
            campaign_body.MAX_ALERTING_TIME,
            Named("scheduleParam", SCHEDULE, mandatory=True),
            Named("ivrParam", IVR, mandatory=True),
            NotServed("skillParam"),
            *(() if first else _OF_V2),
            campaign_body.CALLBACK_URL,
            *_OURS,
            *((campaign_body.INIT_STATUS,) if new else ()),
        )
    )


WEEKLY: Final = Object(
    (
        special_dates.NAME,
        OneOf(special_dates.TYPE.name, (int(SpecialDateKind.WEEKLY),), mandatory=True),
        special_dates.WEEK,
    )
)


def _dated(kind: SpecialDateKind) -> Object:
    return Object(
        (
            special_dates.NAME,
            OneOf(special_dates.TYPE.name, (int(kind),), mandatory=True),
            DayOf(special_dates.BEGIN, kind),
            DayOf(special_dates.END, kind),
        )
    )


DATES: Final = (WEEKLY, _dated(SpecialDateKind.DATES), _dated(SpecialDateKind.YEARLY))
USED: Final = Object((mandatory(special_dates.ID),))
NEW_DATE: Final = Either((*DATES, USED))
CHANGED_DATE: Final = Either(tuple(Object((mandatory(special_dates.ID), *one.fields)) for one in DATES))

BLOCKED: Final = ListOf(blacklist.NUMBER, 1, blacklist.MAX_NUMBERS, distinct=True)
BLACKLIST_ADD: Final = Object(
    (
        Named("blocklist", BLOCKED, mandatory=True),
        blacklist.EXPIRATION,
        blacklist.VALIDITY,
        blacklist.VALIDITY_UNIT,
        blacklist.RESTRICT_TIMES,
        blacklist.RESTRICT_PERIOD,
        blacklist.COVER,
    )
)
BLACKLIST_DELETE: Final = Object((blacklist.NUMBER,))
BLACKLIST_QUERY: Final = Either(
    (
        Object((Named("blocklist", BLOCKED, mandatory=True),)),
        Object((mandatory(blacklist.OFFSET), mandatory(blacklist.LIMIT))),
    )
)
_FILTERS: Final = (number_deletion.SESSION_ID, number_deletion.CALLED, number_deletion.CUSTOM_FIELD)
NUMBERS_DELETE: Final = Object(
    (
        *_FILTERS,
        number_deletion.RECYCLE_TIME,
        number_deletion.RECYCLE_TYPE,
        number_deletion.ALL,
        number_deletion.ARCHIVE_HISTORY,
    )
)
RESULTS: Final = Object(
    (
        results.SESSION_ID,
        results.CUSTOM_FIELD,
        results.BEGIN,
        results.END,
        results.SHOW_DETAIL,
        results.PAGE_SIZE,
        results.PAGE_NUM,
    )
)
CAMPAIGN_DELETE: Final = Object((campaigns.ARCHIVE_HISTORY,))
