"""What schemathesis needs to meet the interface as its clients do: signatures, seeds, codes as statuses.

Loaded by the program `schemathesis`, which test_openapi_calls.py runs; `SEEDS` names a JSON file.

The interface answers a refusal with HTTP status 200. Here a refusal's code becomes a status, in the answers
and in the document, before schemathesis looks at either: so its checks judge the codes.
"""

from __future__ import annotations

import copy
import json
import os
import random
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import TestPhase

from outdial.errors import Code
from outdial.signing import sign

SEEDS = json.loads(Path(os.environ["SEEDS"]).read_text(encoding="utf-8"))
VDN = int(SEEDS["vdn"])
CHANCE = random.Random(SEEDS["seed"])
SPARED = 10
"""One path in so many goes as it was generated: to a campaign that is hardly there."""

BETWEEN_FIELDS = {
    Code.BEGIN_TOO_EARLY, Code.SKILL_CAP, Code.IVR_CAP, Code.NAME_EXISTS, Code.STILL_STARTED,
    Code.STATE_FORBIDS, Code.DATE_NAME_EXISTS, Code.TOO_MANY_DATES, Code.ALREADY_ENDED, Code.DUPLICATE,
    Code.STATE_TAKES_NO_NUMBERS, Code.TOO_MANY_INCOMPLETE, Code.TOO_SOON, Code.BLACKLISTED, Code.COMBINATION,
}  # fmt: skip
STATUS = (
    {code.wire: 422 for code in Code}
    | {code.wire: 409 for code in BETWEEN_FIELDS}
    | {Code.NOT_FOUND.wire: 404, Code.NO_CAMPAIGN.wire: 404, Code.DATABASE.wire: 503, Code.OK.wire: 200}
)

pools: dict[str, Iterator[Any]] = {name: cycle(ids) for name, ids in SEEDS["pools"].items()}
made: set[int] = set()
"""Campaigns and special dates that the interface made during the run: links lead to them."""


class Signed(requests.auth.AuthBase):
    """Signs a request as it will be sent."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        parts = urlsplit(str(request.url))
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        self._last = max(datetime.now(UTC), self._last + timedelta(milliseconds=1))
        request.headers["Authorization"] = sign(
            SEEDS["sk"],
            SEEDS["ak"],
            str(request.method),
            parts.path.encode(),
            parts.query.encode(),
            [(b"host", parts.netloc.encode())],
            body,
            self._last,
            milliseconds=True,
        )
        return request


schemathesis.auth.set_from_requests(Signed())


# -- codes as statuses -----------------------------------------------------------------------------------


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """The document's answer 200 in parts: the success, and each refusal under its status."""
    for methods in raw_schema["paths"].values():
        for operation in methods.values():
            answer = operation["responses"]["200"]
            ((media, content),) = answer["content"].items()
            if "oneOf" not in content["schema"]:
                continue
            success, refusal = content["schema"]["oneOf"]
            content["schema"] = success
            for status in (404, 409, 422, 503):
                codes = refusal["properties"]["resultCode"]["enum"]
                kept = [code for code in codes if STATUS[code] == status]
                if status == 404:
                    kept.append(Code.PARAMETER.wire)
                narrow = copy.deepcopy(refusal)
                for name in ("resultCode", "returnCode"):
                    narrow["properties"][name]["enum"] = kept
                if kept:
                    said = {"description": "refused", "content": {media: {"schema": narrow}}}
                    operation["responses"][str(status)] = said


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """The status of the code; and what was made is remembered."""
    if response.status_code != 200 or not case.path.startswith("/rest/"):
        return
    answer = json.loads(response.content)
    response.status_code = STATUS[answer["resultCode"]]
    found = answer.get("returnObject")
    if isinstance(found, dict) and "id" in found and case.method == "POST":
        made.add(found["id"])


# -- seeds -----------------------------------------------------------------------------------------------


@schemathesis.hook
def before_call(context: Any, case: Any, **kwargs: Any) -> None:
    """Our VDN and a campaign that is there; a body that the rules between fields let pass."""
    modes = {location: info.mode.is_positive for location, info in case.meta.components.items()}
    pair = next(pools["dated"])
    if modes.get(ParameterLocation.BODY, True) and isinstance(case.body, dict):
        mend = MENDED.get((case.method, case.path.removeprefix("/rest/isales/")))
        body = whole(case.body)
        case.body = mend(body) if mend is not None else body
        if case.path.endswith("/holiday/{campaignId}") and "id" in case.body:
            case.body["id"] = pair[1]
    if modes.get(ParameterLocation.PATH, True):
        case.path_parameters = path_values(case, pair)


def whole(value: Any) -> Any:
    """A copy in which 1.0 is 1: to JSON Schema both are integers, to the interface only the second."""
    match value:
        case dict():
            return {name: whole(one) for name, one in value.items()}
        case list():
            return [whole(one) for one in value]
        case float() if value.is_integer():
            return int(value)
    return value


def path_values(case: Any, pair: tuple[int, int]) -> dict[str, Any]:
    """The VDN of our key; a campaign in the state that the operation is for."""
    values = dict(case.path_parameters or {})
    if "vdnId" in values:
        values["vdnId"] = VDN
    # Only a scenario knows in which state a campaign that it made is.
    known = case.meta.phase.name is TestPhase.STATEFUL and values.get("campaignId") in made
    if known or not CHANCE.randrange(SPARED):
        return values
    if "id" in values:
        values["campaignId"], values["id"] = next(pools["doomed"])
    elif case.method == "PUT" and "/holiday/" in case.path:
        values["campaignId"] = pair[0]
    elif "callId" in values:
        values["callId"] = next(pools["calls"])
    elif "campaignId" in values:
        last = case.path.rpartition("/")[2]
        kind = "draft" if "/calldata/" in case.path or case.method == "DELETE" else "steady"
        values["campaignId"] = next(pools[{"pause": "started", "resume": "suspended"}.get(last, kind)])
    return values


# -- bodies ----------------------------------------------------------------------------------------------

Body = dict[str, Any]


def campaign(body: Body) -> Body:
    """Times in order, windows of which each has both ends, a name of its own."""
    body["name"] = f"{body['name'][:80]}{secrets.token_hex(6)}"
    begin = CHANCE.randrange(2027, 9000)
    body |= {"strBeginTime": f"{begin}-01-01 00:00:00", "strEndTime": f"{begin + 1}-01-01 00:00:00"}
    body["deviceType"] = 3
    windows = [("08:00", "09:30"), ("09:30", "12:00"), ("23:00", "24:00")]
    body["scheduleParam"] = {
        f"{kind}{end}Time{slot}": clock
        for kind in CHANCE.choice([["workday"], ["workday", "holiday"]])
        for slot in range(1, CHANCE.randrange(2, 5))
        for end, clock in zip(("Begin", "End"), windows[slot - 1], strict=True)
    }
    if body.get("callBackUrl"):
        body["callBackUrl"] = CHANCE.choice(["http://127.0.0.1:1/r", "https://a.example/p?q=1"])
    if isinstance(body.get("callerNo"), list):
        body["callerNo"] = list({entry["accessCode"]: entry for entry in body["callerNo"]}.values())
    if body.get("retryPolicy"):
        body["retryPolicy"] = retry(body["retryPolicy"])
    return body


POLICIES = (
    [],
    [{"type": 0, "policy": {"retryDay": 1, "retryTime": 10}}],
    [{"type": 0, "policy": {"retryDay": 30, "retryTimes": 1}, "dataType": "mobile"}],
    [{"type": 1, "policy": [{"result": 2, "retryNumber": 1, "callInterval": 60}], "dataType": "office"}],
)


def retry(body: Body) -> Body:
    """JSON text of a policy."""
    body["policyType"] = CHANCE.choice([0, 1])
    body["policyJson"] = json.dumps(CHANCE.choice(POLICIES[2:] if body["policyType"] else POLICIES))
    if body["policyType"] == 1:
        body.pop("noRetryPolicy", None)
    return body


def number_filter(body: Body) -> Body:
    """One filter at least, or all; a recycle time with its type."""
    body.pop("all", None)
    if body.get("recycleTime"):
        body["recycleType"] = CHANCE.choice(["1", "2", "3"])
    if not any(body.get(name) for name in ("sessionId", "called", "customField", "recycleTime")):
        body["all"] = 1
    return body


def result_page(body: Body) -> Body:
    """Both ends of a period, both parts of a page, or none."""
    year, size = CHANCE.randrange(2000, 2030), CHANCE.randrange(1, 101)
    days = {"beginTime": f"{year}-03-01", "endTime": f"{year}-03-20"}
    page = {"pageSize": size, "pageNum": 1}
    for part in (days, page):
        body |= part if CHANCE.randrange(2) else dict.fromkeys(part)
    return body


def special_date(body: Body) -> Body:
    """A name of its own, the days once and in order."""
    if "name" not in body:
        return {"id": body["id"]}
    body["name"] = secrets.token_hex(6)
    if body["type"] == 1:
        body["week"] = CHANCE.choice(["1", "6,7", "7,1,3"])
    else:
        first, last = sorted((body["beginTime"], body["endTime"]))
        body |= {"beginTime": first, "endTime": last}
        body.pop("id", None)
    return body


def listed(body: Body) -> Body:
    """Numbers that are not listed yet; fields that need one another."""
    body["blocklist"] = [str(CHANCE.randrange(10**20)) for _ in body["blocklist"]]
    if body.get("validityExpirationTime"):
        body["validityExpirationTime"] = f"{CHANCE.randrange(2030, 9990)}-02-28 23:59:59"
    if not (body.get("restrictTimes") and body.get("restrictPeriod")):
        body.pop("restrictTimes", None)
        body.pop("restrictPeriod", None)
    return body


def looked_up(body: Body) -> Body:
    """Either of the two."""
    if body.get("blocklist"):
        return {"blocklist": body["blocklist"]}
    return body


def numbers(body: Body) -> Body:
    """Each number once."""
    body["callDataList"] = list({entry["called"]: entry for entry in body["callDataList"]}.values())
    return body


MENDED: dict[tuple[str, str], Callable[[Body], Body]] = {
    ("POST", "v1/openapi/campaigns/{vdnId}"): campaign,
    ("POST", "v2/openapi/campaigns/{vdnId}"): campaign,
    ("PUT", "v1/openapi/campaigns/{vdnId}/{campaignId}"): campaign,
    ("PUT", "v2/openapi/campaigns/{vdnId}/{campaignId}"): campaign,
    ("POST", "v1/openapi/campaigns/{vdnId}/retryPolicy/{campaignId}"): retry,
    ("POST", "v1/openapi/campaigns/{vdnId}/holiday/{campaignId}"): special_date,
    ("PUT", "v1/openapi/campaigns/{vdnId}/holiday/{campaignId}"): special_date,
    ("POST", "v1/openapi/campaigns/{vdnId}/blocklist/add"): listed,
    ("POST", "v1/openapi/campaigns/{vdnId}/blocklist/query"): looked_up,
    ("POST", "v1/openapi/campaigns/{vdnId}/calldata/{campaignId}"): numbers,
    ("POST", "v1/openapi/campaigns/{vdnId}/calldata/{campaignId}/delete"): number_filter,
    ("POST", "v1/openapi/campaigns/{vdnId}/callresult/{campaignId}"): result_page,
}
