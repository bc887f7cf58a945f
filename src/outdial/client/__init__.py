"""The Python client: `Client` for programs with an asyncio loop, `BlockingClient` for all others.

    with BlockingClient(url, ak, sk, vdn=1) as client:
        client.add_numbers(campaign_id, ["8001", "8002"])
        client.resume(campaign_id)

It signs (auth-v2), verifies the server, sends again what is safe to send again, and raises one class for
each code. What stands in `__all__` is public and described in docs/reference/client.md. Inside:
`transport` signs and sends, `tls` trusts, `numbers` cuts and paces adds, `results` and `errors` are what
comes back.
"""

from outdial.client.asynchronous import Client
from outdial.client.blocking import BlockingClient
from outdial.client.errors import (
    AlreadyBlacklisted,
    AuthenticationError,
    BeginsTooEarly,
    Busy,
    CampaignEnded,
    CampaignNotFound,
    CertificateError,
    ClientError,
    DatabaseUnavailable,
    DateNameExists,
    DuplicateNumbers,
    EmptyParameter,
    InvalidCharacters,
    NameExists,
    NoAnswer,
    NotConnected,
    NumberBlacklisted,
    ParameterError,
    ParameterTooLong,
    Refused,
    ServerFault,
    StateForbids,
    StateTakesNoNumbers,
    StillStarted,
    TooFast,
    TooManyEntries,
    TooManyIncomplete,
    TooManyIvrCampaigns,
    TooManySkillCampaigns,
    TooManySpecialDates,
    UnexpectedAnswer,
    WrongCombination,
    WrongTime,
    WrongType,
    WrongValue,
)
from outdial.client.numbers import AddReport, Chunk, Number
from outdial.client.results import (
    BlacklistEntry,
    BlacklistPage,
    Campaign,
    CampaignPage,
    CampaignStatus,
    CampaignSummary,
    RetryPolicy,
    SpecialDate,
)
from outdial.client.transport import Answer, SignedRequest
from outdial.errors import SettingError

__all__ = [
    "AddReport",
    "AlreadyBlacklisted",
    "Answer",
    "AuthenticationError",
    "BeginsTooEarly",
    "BlacklistEntry",
    "BlacklistPage",
    "BlockingClient",
    "Busy",
    "Campaign",
    "CampaignEnded",
    "CampaignNotFound",
    "CampaignPage",
    "CampaignStatus",
    "CampaignSummary",
    "CertificateError",
    "Chunk",
    "Client",
    "ClientError",
    "DatabaseUnavailable",
    "DateNameExists",
    "DuplicateNumbers",
    "EmptyParameter",
    "InvalidCharacters",
    "NameExists",
    "NoAnswer",
    "NotConnected",
    "Number",
    "NumberBlacklisted",
    "ParameterError",
    "ParameterTooLong",
    "Refused",
    "RetryPolicy",
    "ServerFault",
    "SettingError",
    "SignedRequest",
    "SpecialDate",
    "StateForbids",
    "StateTakesNoNumbers",
    "StillStarted",
    "TooFast",
    "TooManyEntries",
    "TooManyIncomplete",
    "TooManyIvrCampaigns",
    "TooManySkillCampaigns",
    "TooManySpecialDates",
    "UnexpectedAnswer",
    "WrongCombination",
    "WrongTime",
    "WrongType",
    "WrongValue",
]
