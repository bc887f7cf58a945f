"""Adds of any length: cut in chunks of 20, paced, and a clear word about what is in."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web
from peers import AK, SK, VDN, serving

from outdial.client import (
    AddReport,
    AuthenticationError,
    BlockingClient,
    CampaignNotFound,
    Client,
    ClientError,
    NoAnswer,
    Number,
    NumberBlacklisted,
    Refused,
    TooFast,
    numbers,
    transport,
)

CAMPAIGN = 9
FORTY_FIVE = [f"8{n:04d}" for n in range(45)]


class Script:
    """Answers adds: the next code of the script, then successes. "lost" closes without an answer."""

    def __init__(self, *codes: str) -> None:
        self.codes = list(codes)
        self.came: list[tuple[float, list[str]]] = []
        self.bodies: list[Any] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        self.came.append((time.monotonic(), [entry["called"] for entry in body["callDataList"]]))
        code = self.codes.pop(0) if self.codes else "0200000"
        if code == "lost":
            assert request.transport is not None
            request.transport.close()
        total = {"totalSize": len(self.came)}
        return web.json_response(
            {"resultCode": code, "resultDesc": "", "returnObject": total},
            status=401 if code == "0200001" else 200,
        )

    @property
    def chunks(self) -> list[list[str]]:
        return [called for _, called in self.came]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waits: what is proven is not the time."""
    monkeypatch.setattr(numbers, "BETWEEN", 0.0)
    monkeypatch.setattr(numbers, "REPEAT_AFTER", 0.0)
    monkeypatch.setattr(transport, "RETRY_WAITS", (0, 0))


async def add(script: Script, given: Any, **options: Any) -> AddReport:
    async with serving(script.answer) as url, Client(url, AK, SK, VDN) as client:
        return await client.add_numbers(CAMPAIGN, given, **options)


def a_generator() -> Iterator[str]:
    yield from FORTY_FIVE


async def an_async_generator() -> AsyncIterator[str]:
    for number in FORTY_FIVE:
        yield number


@pytest.mark.parametrize(
    "given",
    [FORTY_FIVE, tuple(FORTY_FIVE), dict.fromkeys(FORTY_FIVE).keys(), a_generator, an_async_generator],
    ids=["list", "tuple", "view", "generator", "async generator"],
)
@pytest.mark.usefixtures("hasty")
async def test_any_iterable_is_cut_in_chunks_of_20(given: Any) -> None:
    script = Script()
    report = await add(script, given() if callable(given) else given)
    assert script.chunks == [FORTY_FIVE[:20], FORTY_FIVE[20:40], FORTY_FIVE[40:]]
    assert (report.accepted, report.refused, report.unknown, report.total_size) == (FORTY_FIVE, [], [], 3)


@pytest.mark.parametrize(("count", "requests"), [(0, 0), (1, 1), (20, 1), (21, 2), (40, 2)])
@pytest.mark.usefixtures("hasty")
async def test_the_last_chunk_is_never_empty(count: int, requests: int) -> None:
    script = Script()
    report = await add(script, FORTY_FIVE[:count])
    assert (len(script.came), len(report.accepted)) == (requests, count)


@pytest.mark.usefixtures("hasty")
async def test_a_number_is_text_a_number_or_a_mapping() -> None:
    script = Script()
    whole = Number("2", "s", "c", "f", "2030-01-01 00:00:00", "{}", "1")
    await add(script, ["1", whole, Number("3", caller="c"), {"called": "4", "sessionId": "x"}])
    assert script.bodies[0]["callDataList"] == [
        {"called": "1"},
        {
            "called": "2",
            "sessionId": "s",
            "caller": "c",
            "customField": "f",
            "recycleTime": "2030-01-01 00:00:00",
            "callData": "{}",
            "priority": "1",
        },
        {"called": "3", "caller": "c"},
        {"called": "4", "sessionId": "x"},
    ]


@pytest.mark.parametrize("given", ["80001", {"called": "1"}, Number("1"), [80001], b"80001", 5])
async def test_what_is_no_list_of_numbers_is_a_type_error_and_nothing_is_sent(given: Any) -> None:
    """The digits of one number would be ten numbers."""
    script = Script()
    with pytest.raises(TypeError):
        await add(script, given)
    assert script.came == []


async def test_chunks_are_a_second_apart_measured_from_the_answer() -> None:
    """Contract, Restrictions: not less than 1 second. The server's clocks: it ends an answer before the
    client has it, and each answer takes 0.2 s, so that a second from what was sent would be too short.
    """
    script = Script()
    answered = []

    async def slowly(request: web.Request) -> web.Response:
        response = await script.answer(request)
        await asyncio.sleep(0.2)
        answered.append(time.monotonic())
        return response

    async with serving(slowly) as url, Client(url, AK, SK, VDN) as client:
        assert [one async for one in client.add_in_chunks(CAMPAIGN, FORTY_FIVE)]
        began = time.monotonic()
        await client.add_numbers(CAMPAIGN + 1, FORTY_FIVE[:1])
        assert time.monotonic() - began < 0.9, "another campaign need not wait"
    sent = [at for at, _ in script.came][:3]
    assert len(sent) == 3
    assert all(later - earlier >= 1.0 for earlier, later in zip(answered, sent[1:], strict=False))


async def test_adds_to_one_campaign_take_turns() -> None:
    script = Script()
    async with serving(script.answer) as url, Client(url, AK, SK, VDN) as client:
        adds = (client.add_numbers(CAMPAIGN, [number]) for number in FORTY_FIVE[:3])
        await asyncio.gather(*adds)
    times = [at for at, _ in script.came]
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(times))


async def test_too_fast_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "REPEAT_AFTER", 0.05)
    script = Script("0200022", "0200022")
    assert (await add(script, ["1"])).accepted == ["1"]
    assert all(later - earlier >= 0.05 for (earlier, _), (later, _) in pairwise(script.came))
    assert len(script.came) == 3


@pytest.mark.usefixtures("hasty")
async def test_too_fast_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "PATIENCE", 0.0)
    with pytest.raises(TooFast):
        await add(Script("0200022"), ["1"])


@pytest.mark.usefixtures("hasty")
async def test_a_refused_chunk_ends_it_and_the_error_says_what_is_in() -> None:
    script = Script("0200000", "0200024")
    taken = []

    def given() -> Iterator[str]:
        for number in FORTY_FIVE:
            taken.append(number)
            yield number

    with pytest.raises(NumberBlacklisted) as failure:
        await add(script, given())
    report = failure.value.report
    assert report is not None
    assert report.accepted == FORTY_FIVE[:20]
    assert [list(chunk.numbers) for chunk in report.refused] == [FORTY_FIVE[20:40]]
    assert report.refused[0].error is failure.value
    assert report.unknown == []
    assert taken == FORTY_FIVE[:40], "the rest is not even taken"


@pytest.mark.parametrize("code", ["0200018", "0200024", "02000003", "0200030"])
@pytest.mark.usefixtures("hasty")
async def test_go_on_passes_over_a_chunk_refused_for_its_numbers(code: str) -> None:
    script = Script("0200000", code)
    report = await add(script, FORTY_FIVE, go_on=True)
    assert report.accepted == FORTY_FIVE[:20] + FORTY_FIVE[40:]
    assert [list(chunk.numbers) for chunk in report.refused] == [FORTY_FIVE[20:40]]
    error = report.refused[0].error
    assert isinstance(error, Refused)
    assert error.code == code


@pytest.mark.parametrize(
    ("code", "kind"),
    [("0200007", CampaignNotFound), ("0200001", AuthenticationError), ("0200019", Refused)],
)
@pytest.mark.usefixtures("hasty")
async def test_go_on_stops_at_what_every_chunk_would_meet(code: str, kind: type[ClientError]) -> None:
    script = Script(code)
    with pytest.raises(kind):
        await add(script, FORTY_FIVE, go_on=True)
    assert len(script.came) == 1


@pytest.mark.usefixtures("hasty")
async def test_a_chunk_without_an_answer_is_unknown() -> None:
    script = Script("0200000", "lost", "lost", "lost")
    with pytest.raises(NoAnswer) as failure:
        await add(script, FORTY_FIVE, go_on=True)
    report = failure.value.report
    assert report is not None
    assert (report.accepted, report.unknown, report.refused) == (FORTY_FIVE[:20], FORTY_FIVE[20:40], [])


@pytest.mark.usefixtures("hasty")
async def test_plain_calls_take_the_numbers_in_the_callers_thread() -> None:
    """A cursor of a database may be used in one thread only."""
    threads = set()

    def given() -> Iterator[str]:
        for number in FORTY_FIVE:
            threads.add(threading.get_ident())
            yield number

    def work(url: str) -> tuple[AddReport, AddReport | None, int]:
        with BlockingClient(url, AK, SK, VDN) as client:
            report = client.add_numbers(CAMPAIGN, given())
            with pytest.raises(NumberBlacklisted) as failure:
                client.add_numbers(CAMPAIGN, FORTY_FIVE)
            return report, failure.value.report, threading.get_ident()

    script = Script("0200000", "0200000", "0200000", "0200000", "0200024")
    async with serving(script.answer) as url:
        report, partial, thread = await asyncio.to_thread(work, url)
    assert (report.accepted, threads) == (FORTY_FIVE, {thread})
    assert partial is not None
    assert partial.accepted == FORTY_FIVE[:20]


def test_no_number_in_a_repr() -> None:
    report = AddReport([numbers.Chunk(("13800138000",))])
    assert "138" not in repr(report)
