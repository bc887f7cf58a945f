"""The retry policy: set, query, and as part of a campaign's body (wire/campaign-api.md §5.1).

The pages name two fields in turn for one another and publish no numbers of results; what stands here is
this server's choice (docs/reference/rules.md, section 6).
"""

from __future__ import annotations

import json
from typing import Any, Final

from outdial import jsontext
from outdial.errors import Code, Refusal
from outdial.model import Disposition, RetryPolicy, RetryRule, Vdn
from outdial.service import Service
from outdial.wire import envelope
from outdial.wire.fields import Integer, OneOf, RawObject, Text, an_object, missing, not_served, wrong_type

RESULTS: Final[dict[int, tuple[str, ...]]] = {
    1: (Disposition.ANSWERED,),
    2: (Disposition.BUSY,),
    3: (Disposition.REJECTED,),
    4: (Disposition.NO_ANSWER, Disposition.RING_TIMEOUT),
    5: (Disposition.MACHINE,),
    6: (Disposition.INVALID,),
    7: (Disposition.CONGESTION, Disposition.NO_REPLY),
    8: (Disposition.FAILED,),
}
"""The types of results that a rule can name; the first one is never tried again."""

MAX_CODES = 200

POLICY_TYPE = OneOf("policyType", (0, 1), mandatory=True)
POLICY_JSON = Text("policyJson", 4096, mandatory=True)
DATA_TYPE = Text("dataType", 32)
TYPE = OneOf("type", (0, 1), mandatory=True)
RETRY_DAY = Integer("retryDay", 1, 30, mandatory=True)
RETRY_TIME = Integer("retryTime", 1, 10)
RETRY_TIMES = Integer("retryTimes", 1, 10)
RESULT = OneOf("result", tuple(RESULTS)[1:], mandatory=True)
RETRY_NUMBER = Integer("retryNumber", 1, 10, mandatory=True)
CALL_INTERVAL = Integer("callInterval", 1, 86_400, mandatory=True)
FAIL_CODE_LENGTH = 5


async def set_policy(service: Service, vdn: Vdn, campaign_id: int, body: bytes) -> bytes:
    """POST .../retryPolicy/{campaignId}. Raises `Refusal` 0200-01, and those of `policy_of`."""
    policy = policy_of(an_object(jsontext.decode(body), "the body"))
    await service.set_retry_policy(vdn.vdn_id, campaign_id, policy)
    return envelope.success("set retry policy success")


async def query_policy(service: Service, vdn: Vdn, campaign_id: int) -> bytes:
    """GET .../retryPolicy/{campaignId}. Raises `Refusal` 0200007."""
    found = await service.campaign(vdn.vdn_id, campaign_id)
    data = {"retryPolicyId": campaign_id, **shown(found.retry), "busiPolicy": None}
    return envelope.success("query retry policy success", data=data)


def policy_of(raw: RawObject, place: str = "") -> RetryPolicy:
    """The policy of an object with `policyType`, `policyJson` and `noRetryPolicy`. Raises `Refusal`."""
    per_type = POLICY_TYPE.required(raw, place) == 1
    listed = _listed(POLICY_JSON.required(raw, place), place + POLICY_JSON.name)
    never = _never(raw, place)
    not_served(raw, "busiPolicy", place)
    if per_type and never:
        raise Refusal(Code.COMBINATION, f"{place}noRetryPolicy: not together with policyType 1")
    if not listed:
        return RetryPolicy(never=never)
    where = f"{place}{POLICY_JSON.name}[0]"
    one = an_object(listed[0], where)
    number_type = DATA_TYPE.read(one, f"{where}.") or ""
    if per_type and not number_type:
        raise missing(f"{where}.dataType")
    by_result = TYPE.required(one, f"{where}.") == 1
    facts = _rules(one, where) if by_result else _days(one, where)
    return RetryPolicy(**facts, never=never, number_type=number_type if per_type else "")


def _listed(text: str, where: str) -> list[Any]:
    """The list in `policyJson`; its strings may stand in single quotes, as in the pages' sample."""
    try:
        found = jsontext.decode_text(text if '"' in text else text.replace("'", '"'))
    except jsontext.NotJson:
        found = None
    if type(found) is not list:
        raise Refusal(Code.VALUE, f"{where}: must be JSON text of a list")
    if len(found) > 1:
        raise Refusal(Code.PARAMETER, f"{where}: more than one type of number is not served yet")
    return found


def _never(raw: RawObject, place: str) -> tuple[str, ...]:
    codes = raw.get("noRetryPolicy")
    where = f"{place}noRetryPolicy"
    if codes is None or codes == "":
        return ()
    if type(codes) is not list:
        raise wrong_type(where, "a list")
    if len(codes) > MAX_CODES:
        raise Refusal(Code.TOO_MANY_ENTRIES, f"{where}: {len(codes)} codes, {MAX_CODES} are allowed")
    for n, code in enumerate(codes):
        if type(code) is not str:
            raise wrong_type(f"{where}[{n}]", "a string")
        if len(code) != FAIL_CODE_LENGTH or not (code.isascii() and code.isdigit()):
            raise Refusal(Code.VALUE, f"{where}[{n}]: must be a failCode: {FAIL_CODE_LENGTH} digits")
    return tuple(codes)


def _days(one: RawObject, where: str) -> dict[str, Any]:
    place = f"{where}.policy."
    policy = an_object(_policy(one, where), f"{where}.policy")
    days = RETRY_DAY.required(policy, place)
    set_name, query_name = RETRY_TIME.read(policy, place), RETRY_TIMES.read(policy, place)
    if set_name is None and query_name is None:
        raise missing(place + RETRY_TIME.name)
    if None not in (set_name, query_name) and set_name != query_name:
        raise Refusal(Code.COMBINATION, f"{place}retryTime and retryTimes are two names of one field")
    return {"days": days, "tries_a_day": set_name or query_name}


def _rules(one: RawObject, where: str) -> dict[str, Any]:
    listed = _policy(one, where)
    if type(listed) is not list:
        raise wrong_type(f"{where}.policy", "a list")
    rules: dict[int, RetryRule] = {}
    for n, value in enumerate(listed):
        place = f"{where}.policy[{n}]"
        raw = an_object(value, place)
        result = RESULT.required(raw, f"{place}.")
        if result in rules:
            raise Refusal(Code.COMBINATION, f"{place}.result: stands twice in the list")
        rules[result] = RetryRule(
            RESULTS[result],
            RETRY_NUMBER.required(raw, f"{place}."),
            CALL_INTERVAL.required(raw, f"{place}."),
        )
    return {"rules": tuple(rules.values())}


def _policy(one: RawObject, where: str) -> Any:
    policy = one.get("policy")
    if policy in (None, "", []):
        raise missing(f"{where}.policy")
    return policy


def shown(policy: RetryPolicy) -> dict[str, Any]:
    """The policy as it is answered; `policyJson` in double quotes."""
    return {
        "policyType": 1 if policy.number_type else 0,
        "policyJson": json.dumps(_shown_list(policy), ensure_ascii=False),
        "noRetryPolicy": list(policy.never),
    }


def _shown_list(policy: RetryPolicy) -> list[dict[str, Any]]:
    if policy.rules:
        results = {dispositions: result for result, dispositions in RESULTS.items()}
        rules = [
            {"result": results[rule.dispositions], "retryNumber": rule.retries, "callInterval": rule.interval}
            for rule in policy.rules
        ]
        kind: dict[str, Any] = {"type": 1, "policy": rules}
    elif policy.days:
        kind = {"type": 0, "policy": {"retryDay": policy.days, "retryTimes": policy.tries_a_day}}
    else:
        return []
    return [({"dataType": policy.number_type} if policy.number_type else {}) | kind]
