"""The client against a whole server over HTTP: each refusal, a wrong key, a wrong clock, a lost answer."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pytest
import time_machine

from outdial import client as c
from outdial.client import BlockingClient, CampaignStatus, Client, ClientError, NoAnswer, transport
from outdial.errors import Code
from outdial.testing import OutdialServer

pytest_plugins = ["outdial.testing"]

BLACK = "8666601"
POLICY = {"policyType": 0, "policyJson": "[]"}
_names = count(1)


def body(**fields: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "name": f"refusals {next(_names)}",
        "strBeginTime": f"{now:%Y-%m-%d} 00:00:00",
        "strEndTime": f"{now + timedelta(days=1):%Y-%m-%d %H:%M:%S}",
        "deviceType": 3,
        "callerNo": "100",
        "maxAlertingTime": 5,
        "scheduleParam": {"workdayBeginTime1": "00:00", "workdayEndTime1": "24:00"},
        "ivrParam": {"callCount": 10, "callInterval": 1},
        "initStatus": 1,
    } | fields


def v2(**fields: Any) -> dict[str, Any]:
    return body(callerNo=[{"accessCode": "100"}]) | fields


def started(client: BlockingClient) -> int:
    return client.create_campaign(body(initStatus=2))


def draft(client: BlockingClient) -> int:
    return client.create_campaign(body())


def twice_the_name(client: BlockingClient) -> None:
    same = body()
    client.create_campaign(same)
    client.create_campaign(same)


def twice_the_date(client: BlockingClient) -> None:
    campaign, name = draft(client), f"date {next(_names)}"
    for _ in range(2):
        client.add_special_date(campaign, {"name": name, "type": 1, "week": "1"})


def many_dates(client: BlockingClient) -> None:
    campaign = draft(client)
    for n in range(21):
        client.add_special_date(campaign, {"name": f"{campaign} {n}", "type": 1, "week": "1"})


def too_many(client: BlockingClient) -> None:
    made = []
    try:
        for _ in range(21):
            made.append(started(client))
    finally:
        for campaign in made:
            client.pause(campaign)
            client.delete_campaign(campaign)


def too_fast(client: BlockingClient) -> None:
    campaign = draft(client)
    client.add_chunk(campaign, ["1"])
    client.add_chunk(campaign, ["2"])


def blacklisted(client: BlockingClient) -> None:
    client.add_to_blacklist([BLACK])
    try:
        client.add_chunk(draft(client), ["1", BLACK])
    finally:
        client.delete_from_blacklist(BLACK)


def blacklisted_twice(client: BlockingClient) -> None:
    client.add_to_blacklist([BLACK])
    try:
        client.add_to_blacklist([BLACK])
    finally:
        client.delete_from_blacklist(BLACK)


def after_the_end(client: BlockingClient) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    campaign = client.create_campaign(body(strEndTime=f"{soon:%Y-%m-%d %H:%M:%S}"))
    while client.show_campaign(campaign).status is not CampaignStatus.ENDED:
        time.sleep(0.1)
    client.modify_campaign(campaign, v2())


def entry(**fields: Any) -> Callable[[BlockingClient], object]:
    return lambda client: client.add_chunk(draft(client), [{"called": "1"} | fields])


REFUSALS: list[tuple[Callable[[BlockingClient], object], type[ClientError], str]] = [
    (lambda k: k.send(k.signed("GET", "/nowhere")), c.ParameterError, "0200001"),
    (lambda k: k.show_campaign(9999999), c.CampaignNotFound, "0200007"),
    (lambda k: k.add_numbers(9999999, ["1"]), c.CampaignNotFound, "0200007"),
    (lambda k: k.set_retry_policy(9999999, POLICY), c.CampaignNotFound, "0200-01"),
    (lambda k: k.create_campaign(body(strBeginTime="2020-01-01 00:00:00")), c.BeginsTooEarly, "0200002"),
    (too_many, c.TooManyIvrCampaigns, "0200004"),
    (twice_the_name, c.NameExists, "0200005"),
    (lambda k: k.delete_campaign(started(k)), c.StillStarted, "0200009"),
    (lambda k: k.pause(draft(k)), c.StateForbids, "0200011"),
    (twice_the_date, c.DateNameExists, "0200013"),
    (many_dates, c.TooManySpecialDates, "0200015"),
    (after_the_end, c.CampaignEnded, "0200016"),
    (lambda k: k.add_chunk(draft(k), ["1", "1"]), c.DuplicateNumbers, "0200018"),
    (lambda k: k.add_numbers(started(k), ["1"]), c.StateTakesNoNumbers, "0200019"),
    (too_fast, c.TooFast, "0200022"),
    (blacklisted, c.NumberBlacklisted, "0200024"),
    (blacklisted_twice, c.AlreadyBlacklisted, "0200007"),
    (lambda k: k.add_chunk(draft(k), [str(n) for n in range(21)]), c.TooManyEntries, "0200029"),
    (entry(recycleTime="2030-02-30 00:00:00"), c.WrongTime, "0200030"),
    (entry(called=""), c.EmptyParameter, "02000001"),
    (entry(called="1x"), c.InvalidCharacters, "02000002"),
    (entry(called="1" * 25), c.ParameterTooLong, "02000003"),
    (entry(called=1), c.WrongType, "02000006"),
    (lambda k: k.create_campaign(body(deviceType=9)), c.WrongValue, "02000007"),
    (
        lambda k: k.send(k.signed("POST", "/rest/isales/v1/openapi/campaigns/1/blocklist/query", body={})),
        c.WrongCombination,
        "02000009",
    ),
]
UNREACHED = {"0200003", "0200006", "0200020"}
"""What takes a skill queue, a store that is away, or 200,000 numbers; scripted in other tests."""


@pytest.mark.parametrize(("provoke", "kind", "code"), REFUSALS, ids=[one[1].__name__ for one in REFUSALS])
def test_each_refusal_has_its_class_and_says_what_to_do(
    outdial_server: OutdialServer,
    provoke: Callable[[BlockingClient], object],
    kind: type[ClientError],
    code: str,
) -> None:
    """The server's own words, which name the place; and the way out in the message."""
    with pytest.raises(ClientError) as failure:
        provoke(outdial_server.client)
    error = failure.value
    assert (type(error), error.code) == (kind, code)
    assert error.description
    assert error.description in str(error)
    assert error.hint in str(error)
    assert error.hint or kind is c.ParameterError
    assert error.request_id


def test_every_code_is_provoked_but_three() -> None:
    assert {code for *_, code in REFUSALS} | UNREACHED == {code.wire for code in Code if code is not Code.OK}


def test_a_wrong_secret_says_what_to_check(outdial_server: OutdialServer) -> None:
    s = outdial_server
    with BlockingClient(s.url, s.ak, "wrong", s.vdn) as stranger, pytest.raises(c.AuthenticationError) as no:
        stranger.show_campaign(s.campaign)
    assert "check the access key, its secret and the VDN" in str(no.value)
    assert (no.value.http_status, "clock" in str(no.value)) == (401, False)


@pytest.mark.parametrize(("minutes", "where"), [(20, "ahead"), (-20, "behind")])
def test_a_clock_that_is_off_says_by_how_much(
    outdial_server: OutdialServer, minutes: int, where: str
) -> None:
    real = datetime.now(UTC)
    off = time_machine.travel(real + timedelta(minutes=minutes), tick=True)
    with off, pytest.raises(c.AuthenticationError) as failure:
        outdial_server.client.show_campaign(outdial_server.campaign)
    said = str(failure.value)
    assert f"this machine's clock is 20 minutes {where}" in said
    shown = re.search(r"the server has ([-0-9]+ [:0-9]+) UTC", said)
    assert shown is not None
    assert abs(datetime.fromisoformat(f"{shown[1]}+00:00") - real) < timedelta(seconds=60)
    assert "set the clock" in said


def test_ten_minutes_off_are_no_matter(outdial_server: OutdialServer) -> None:
    """semantics.md §2: 15 minutes are allowed."""
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=10), tick=True):
        assert outdial_server.client.show_campaign(outdial_server.campaign).name == "dev"


@asynccontextmanager
async def losing_answers(url: str, lost: int) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A way to the server that lets every request through whole, and loses its first `lost` answers."""
    target, answers = urlsplit(url), list[bytes]()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(target.hostname, target.port)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        to_server.write(head + await reader.readexactly(length))
        answer = await from_server.readuntil(b"}")
        while answer.count(b"{") > answer.count(b"}"):
            answer += await from_server.readuntil(b"}")
        answers.append(answer)
        if len(answers) > lost:
            writer.write(answer)
            await writer.drain()
        for one in (writer, to_server):
            one.close()
            await one.wait_closed()

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", answers


async def test_an_add_whose_answer_was_lost_is_sent_again_and_has_one_effect(
    outdial_server: OutdialServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee G2: the server answers the same bytes from store."""
    monkeypatch.setattr(transport, "RETRY_WAITS", (0, 0))
    s = outdial_server
    campaign = await asyncio.to_thread(s.new_campaign)
    async with losing_answers(s.url, lost=2) as (url, answers), Client(url, s.ak, s.sk, s.vdn) as client:
        report = await client.add_numbers(campaign, ["1", "2"])
    assert [b"0200000" in answer for answer in answers] == [True] * 3, "each try was processed"
    assert [b"idempotent-replayed: true" in answer.lower() for answer in answers] == [False, True, True]
    assert report.accepted == ["1", "2"]
    shown = await asyncio.to_thread(s.client.show_campaign, campaign)
    assert (report.total_size, shown.incomplete) == (2, 2)


async def test_an_add_whose_answers_are_all_lost_is_unknown(
    outdial_server: OutdialServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "RETRY_WAITS", (0, 0))
    s = outdial_server
    campaign = await asyncio.to_thread(s.new_campaign)
    async with losing_answers(s.url, lost=3) as (url, _), Client(url, s.ak, s.sk, s.vdn) as client:
        with pytest.raises(NoAnswer, match="whether it took effect is not known") as failure:
            await client.add_numbers(campaign, ["1", "2"])
    assert failure.value.report is not None
    assert failure.value.report.unknown == ["1", "2"]
    shown = await asyncio.to_thread(s.client.show_campaign, campaign)
    assert shown.incomplete == 2


def test_two_programs_that_add_to_one_campaign_wait_for_each_other(outdial_server: OutdialServer) -> None:
    """Neither knows of the other: what comes too soon is waited out, and everything is in."""
    s = outdial_server
    campaign = s.new_campaign()
    reports: list[c.AddReport] = []

    def program(first: int) -> None:
        with BlockingClient(s.url, s.ak, s.sk, s.vdn) as client:
            reports.append(client.add_numbers(campaign, (str(first + n) for n in range(30))))

    programs = [threading.Thread(target=program, args=(first,)) for first in (1000, 2000)]
    began = time.monotonic()
    for one in programs:
        one.start()
    for one in programs:
        one.join()
    assert sorted(len(report.accepted) for report in reports) == [30, 30]
    assert s.client.show_campaign(campaign).incomplete == 60
    assert time.monotonic() - began >= 3.0, "four adds, a second apart"


def test_what_is_asked_comes_back_typed(outdial_server: OutdialServer) -> None:
    client = outdial_server.client
    campaign = client.create_campaign_v2(v2(priority=2))
    shown = client.show_campaign(campaign)
    assert (shown.id, shown.status, shown.standing) == (campaign, CampaignStatus.DRAFT, "draft")
    assert (shown.incomplete, shown.caller, shown.raw["priority"]) == (0, "100", 2)
    assert shown.begin_at < shown.end_at
    rules = '[{"type": 0, "policy": {"retryDay": 1, "retryTime": 2}}]'
    client.set_retry_policy(campaign, {"policyType": 0, "policyJson": rules, "noRetryPolicy": ["00538"]})
    policy = client.show_retry_policy(campaign)
    assert (policy.policy_type, policy.no_retry) == (0, ["00538"])
    date = client.add_special_date(campaign, {"name": "typed", "type": 1, "week": "6,7"})
    (found,) = client.list_special_dates(campaign)
    assert (found.id, found.name, found.week, found.begin) == (date, "typed", "6,7", None)
    client.delete_special_dates(campaign, date)
    client.delete_campaign(campaign)
    assert campaign not in {one.id for one in client.campaigns()}


def test_the_blacklist_page_by_page(outdial_server: OutdialServer) -> None:
    client = outdial_server.client
    client.clear_blacklist()
    listed = [f"7{n:03d}" for n in range(130)]
    for at in range(0, 130, 20):
        client.add_to_blacklist(listed[at : at + 20], hours=5, restrict_times=2, per="day")
    assert [one.number for one in client.blacklist()] == listed
    page = client.list_blacklist(offset=120)
    assert (page.total, len(page.entries)) == (130, 10)
    (one,) = client.query_blacklist(["7000", "9"])
    assert (one.number, one.restrict_times, one.per, one.expires is None) == ("7000", 2, "day", False)
    client.clear_blacklist()
    assert list(client.blacklist()) == []


async def test_all_campaigns_page_by_page(outdial_server: OutdialServer) -> None:
    s = outdial_server
    async with Client(s.url, s.ak, s.sk, s.vdn) as client:
        made = {await client.create_campaign(body(name=f"paged {n}")) for n in range(105)}
        found = [one.id async for one in client.campaigns("paged")]
        assert (len(found), set(found)) == (105, made)
    assert [one.id for one in await asyncio.to_thread(lambda: list(s.client.campaigns("paged")))] == found
