"""The dialer: what to claim, place, hang up and settle, decided from events and the clock, without I/O.

    words.py       one reading of the clocks; the actions the dialer asks for, the events it hears
    caps.py        how often one number may be called
    selection.py   under the campaign's row lock: which candidates are dialed, ended or postponed
    schedule.py    which campaign is to be claimed when
    sharing.py     how campaigns share trunks: priority, and turns among equals
    call.py        one attempt in flight
    dialer.py      every attempt from its committed intent to its one settlement or withdrawal

Why a call is placed at most once (G3), inside its hours (G6) and not after a pause (G7): its intent is
committed under the campaign's row lock, and it is placed within `SEND_WITHIN` of the moment before that
claim began, or withdrawn. A pause and a fence wait for that lock, so nothing leaves later than 1 s after.
"""

from outdial.dialing.dialer import Dialer
from outdial.dialing.selection import Candidate, Listing, PacedCampaign, Selection, select
from outdial.dialing.words import (
    CONFIRM_WITHIN,
    MAX_CALL,
    RELEASE_WITHIN,
    SEND_WITHIN,
    Action,
    Adopted,
    Claim,
    Claimed,
    ClaimFailed,
    Confirm,
    Event,
    HangUp,
    Inquire,
    Key,
    NotSent,
    Now,
    Place,
    Remember,
    Remembered,
    RoomOf,
    Settle,
    Stop,
    SwitchDown,
    SwitchUp,
    Told,
    Withdraw,
)

__all__ = [
    "CONFIRM_WITHIN",
    "MAX_CALL",
    "RELEASE_WITHIN",
    "SEND_WITHIN",
    "Action",
    "Adopted",
    "Candidate",
    "Claim",
    "ClaimFailed",
    "Claimed",
    "Confirm",
    "Dialer",
    "Event",
    "HangUp",
    "Inquire",
    "Key",
    "Listing",
    "NotSent",
    "Now",
    "PacedCampaign",
    "Place",
    "Remember",
    "Remembered",
    "RoomOf",
    "Selection",
    "Settle",
    "Stop",
    "SwitchDown",
    "SwitchUp",
    "Told",
    "Withdraw",
    "select",
]
