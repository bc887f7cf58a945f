"""The signing client against real servers in this process: one that verifies, one that only records bytes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from peers import AK, OK, ROOT, SK, VDN, Recorder, Verifier, serving

from outdial import signing
from outdial.client import (
    AuthenticationError,
    BlockingClient,
    Busy,
    Client,
    ClientError,
    DatabaseUnavailable,
    NoAnswer,
    NotConnected,
    ServerFault,
    TooFast,
    UnexpectedAnswer,
    transport,
)
from outdial.errors import SettingError

ROOT_V2 = ROOT.replace("/v1/", "/v2/")
Call = Callable[[Client], Awaitable[Any]]


@pytest.fixture
def verifier() -> Verifier:
    return Verifier()


@pytest.fixture
async def url(verifier: Verifier) -> AsyncIterator[str]:
    async with serving(verifier.answer) as address:
        yield address


ENTRY = {"called": "1#"}
VERBS: list[tuple[Call, str, object]] = [
    (lambda c: c.add_chunk(9, [ENTRY]), f"POST {ROOT}/calldata/9", {"callDataList": [ENTRY]}),
    (lambda c: c.create_campaign({"name": "a"}), f"POST {ROOT}", {"name": "a"}),
    (lambda c: c.list_campaigns(), f"GET {ROOT}?status=0&deviceType=0&curPage=1&rowsPerPage=100", None),
    (
        lambda c: c.list_campaigns("a+b c/ü&=%", 2, 3, 4, 5),
        f"GET {ROOT}?status=2&deviceType=3&name=a%2Bb+c%2F%C3%BC%26%3D%25&curPage=4&rowsPerPage=5",
        None,
    ),
    (lambda c: c.show_campaign(9), f"GET {ROOT}/9", None),
    (lambda c: c.pause(9), f"PUT {ROOT}/9/pause", None),
    (lambda c: c.resume(9), f"PUT {ROOT}/9/resume", None),
    (lambda c: c.create_campaign_v2({"name": "a"}), f"POST {ROOT_V2}", {"name": "a"}),
    (lambda c: c.modify_campaign(9, {"name": "a"}), f"PUT {ROOT_V2}/9", {"name": "a"}),
    (lambda c: c.set_retry_policy(9, {"policyType": 0}), f"POST {ROOT}/retryPolicy/9", {"policyType": 0}),
    (lambda c: c.show_retry_policy(9), f"GET {ROOT}/retryPolicy/9", None),
    (lambda c: c.list_special_dates(9), f"GET {ROOT}/holiday/9", None),
    (lambda c: c.add_special_date(9, {"id": 5}), f"POST {ROOT}/holiday/9", {"id": 5}),
    (lambda c: c.modify_special_date(9, {"id": 5}), f"PUT {ROOT}/holiday/9", {"id": 5}),
    (lambda c: c.delete_special_dates(9), f"DELETE {ROOT}/holiday/9", None),
    (lambda c: c.delete_special_dates(9, 5), f"DELETE {ROOT}/holiday/9/5", None),
    (lambda c: c.delete_campaign(9), f"DELETE {ROOT}/9", {"archiveHistory": 0}),
    (lambda c: c.delete_campaign(9, archive_history=True), f"DELETE {ROOT}/9", {"archiveHistory": 1}),
    (lambda c: c.add_to_blacklist(["1"]), f"POST {ROOT}/blocklist/add", {"blocklist": ["1"]}),
    (
        lambda c: c.add_to_blacklist(["1"], hours=5, restrict_times=2, per="day", overwrite=False),
        f"POST {ROOT}/blocklist/add",
        {"blocklist": ["1"], "validityTime": 5, "restrictTimes": 2, "restrictPeriod": "1", "isCoverDupNo": 0},
    ),
    (lambda c: c.delete_from_blacklist("1"), f"POST {ROOT}/blocklist/delete", {"blocklistNo": "1"}),
    (lambda c: c.clear_blacklist(), f"DELETE {ROOT}/blocklist", None),
    (lambda c: c.query_blacklist(["1"]), f"POST {ROOT}/blocklist/query", {"blocklist": ["1"]}),
    (lambda c: c.list_blacklist(3, 5), f"POST {ROOT}/blocklist/query", {"offset": 3, "limit": 5}),
]  # fmt: skip


@pytest.mark.parametrize(("call", "line", "body"), VERBS)
async def test_every_verb_is_signed_as_it_is_sent(
    verifier: Verifier, url: str, call: Call, line: str, body: object
) -> None:
    async with Client(url, AK, SK, VDN) as client:
        await call(client)
    (seen,) = verifier.seen
    assert (seen["line"], seen["body"]) == (line, body)
    assert seen["signed"] == ["content-type", "host"]
    assert seen["headers"]["content-type"] == "application/json; charset=UTF-8"
    assert seen["headers"]["host"] == url.removeprefix("http://")


async def test_a_wrong_secret_is_an_error_with_code_status_and_request_id(url: str) -> None:
    async with Client(url, AK, SK + "x", VDN) as client:
        with pytest.raises(AuthenticationError) as failure:
            await client.pause(9)
    error = failure.value
    assert (error.code, error.http_status, error.request_id) == ("0200001", 401, "r-1")
    assert error.description == "the signature does not match the request"
    assert str(error) == (
        "0200001: the signature does not match the request; check the access key, its secret and the VDN"
        " (OUTDIAL_AK, OUTDIAL_SK, OUTDIAL_VDN)"
    )


async def test_the_idempotency_key_is_sent_and_signed(verifier: Verifier, url: str) -> None:
    async with Client(url, AK, SK, VDN) as client:
        await client.add_chunk(9, [], idempotency_key="order-1")
    (seen,) = verifier.seen
    assert seen["headers"]["idempotency-key"] == "order-1"
    assert seen["signed"] == ["content-type", "host", "idempotency-key"]


async def test_two_requests_of_one_second_have_two_signatures() -> None:
    """semantics.md §3: the same signature is the same request, so a second add needs another one."""
    client = Client("http://127.0.0.1:1", AK, SK, VDN)
    values = set()
    for _ in range(3):
        values.add(client.signed("POST", "/x", body={}).headers["Authorization"])
        await asyncio.sleep(0.002)
    assert len(values) == 3


@pytest.mark.parametrize(
    ("status", "content_type", "text"),
    [
        (502, "text/html", "<html>bad gateway</html>"),
        (200, "application/json", "[]"),
        (200, "application/json", "null"),
        (200, "application/json", '"resultCode"'),
        (200, "application/json", '{"resultCode":'),
        (200, "application/json", "{}"),
        (200, "application/json", "[" * 100_000),
        (302, "text/plain", ""),
    ],
)
async def test_an_answer_of_another_kind_is_an_error(status: int, content_type: str, text: str) -> None:
    async def other(_: web.Request) -> web.Response:
        return web.Response(status=status, content_type=content_type, text=text, headers={"Location": "/"})

    async with serving(other) as address, Client(address, AK, SK, VDN) as client:
        with pytest.raises(
            UnexpectedAnswer, match=rf"HTTP {status} \({content_type}\): the answer is not"
        ) as failure:
            await client.show_campaign(1)
    assert (failure.value.code, failure.value.http_status) == (None, status)
    assert not isinstance(failure.value, NoAnswer)


async def test_a_refusal_is_an_error_also_with_http_200() -> None:
    async def refused(_: web.Request) -> web.Response:
        return web.json_response({"resultCode": "0200022", "resultDesc": "too soon"})

    async with serving(refused) as address, Client(address, AK, SK, VDN) as client:
        with pytest.raises(TooFast) as failure:
            await client.add_chunk(1, [])
    assert (failure.value.code, failure.value.description) == ("0200022", "too soon")
    assert (failure.value.http_status, failure.value.request_id) == (200, None)


async def test_a_success_code_with_another_http_status_is_no_success() -> None:
    async def odd(_: web.Request) -> web.Response:
        return web.json_response(OK, status=500)

    async with serving(odd) as address, Client(address, AK, SK, VDN) as client:
        with pytest.raises(ServerFault):
            await client.show_campaign(1)


@pytest.mark.parametrize("missing", ["returnObject", "totalSize"])
async def test_a_success_without_its_fields_is_told(missing: str) -> None:
    answer = {name: value for name, value in OK.items() if name != missing} | {"returnObject": None}

    async def odd(_: web.Request) -> web.Response:
        return web.json_response(answer)

    async with serving(odd) as address, Client(address, AK, SK, VDN) as client:
        with pytest.raises(UnexpectedAnswer, match="a success without what belongs to it"):
            await (client.show_campaign(1) if missing == "returnObject" else client.list_campaigns())


# -- a peer that records bytes -----------------------------------------------------------------------------


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "RETRY_WAITS", (0, 0))


def parts(raw: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    pairs = [tuple(field.split(b": ", 1)) for field in fields]
    return line, [(name.lower(), value) for name, value in pairs], body


async def test_what_is_on_the_wire_is_what_was_signed() -> None:
    """Exactly one Host, Content-Type and Authorization; the target and the body byte for byte."""
    async with Recorder("answer").listening() as peer, Client(peer.url, AK, SK, VDN) as client:
        request = client.signed("POST", "/a/%2f/%7e", query={"q": "a b"}, body={"n": "ü€"})
        await client.send(request)
    line, headers, body = parts(peer.requests[0])
    assert line == b"POST /a/%2f/%7e?q=a+b HTTP/1.1"
    assert body == request.body == b'{"n": "\\u00fc\\u20ac"}'
    names = [name for name, _ in headers]
    assert [
        names.count(name) for name in (b"host", b"content-type", b"authorization", b"content-length")
    ] == [1] * 4
    parsed = signing.Authorization.of(headers)
    signing.verify(parsed, SK, "POST", b"/a/%2f/%7e", b"q=a+b", headers, body, datetime.now(UTC))


@pytest.mark.parametrize(
    "script", [("close", "answer"), ("close", "close", "answer"), ("hang", "answer"), ("cut", "answer")]
)
@pytest.mark.usefixtures("no_waits")
async def test_an_add_without_an_answer_is_sent_again_with_the_very_same_bytes(
    script: tuple[str, ...],
) -> None:
    """semantics.md §3: the same signed bytes are the same request; never signed anew."""
    async with Recorder(*script).listening() as peer, Client(peer.url, AK, SK, VDN, timeout=0.5) as client:
        assert (await client.add_numbers(9, ["1"])).accepted == ["1"]
    assert len(peer.requests) == len(script)
    assert len(set(peer.requests)) == 1


@pytest.mark.usefixtures("no_waits")
async def test_an_add_is_sent_three_times_and_no_more() -> None:
    async with Recorder(*["close"] * 4).listening() as peer, Client(peer.url, AK, SK, VDN) as client:
        with pytest.raises(
            NoAnswer, match=r"sent 3 times, no answer; the last time: the connection to .* was lost"
        ):
            await client.add_numbers(9, [{"called": "1"}])
    assert len(peer.requests) == 3


@pytest.mark.usefixtures("no_waits")
async def test_a_server_gone_after_the_first_try_leaves_the_fate_unknown() -> None:
    """The first try may have taken effect: not NotConnected, though the last try was that."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        accepted = asyncio.get_running_loop().run_in_executor(None, _accept_and_vanish, server)
        async with Client(f"http://127.0.0.1:{port}", AK, SK, VDN) as client:
            with pytest.raises(NoAnswer, match=r"sent 3 times.* cannot connect"):
                await client.add_numbers(9, [{"called": "1"}])
        await accepted


def _accept_and_vanish(server: socket.socket) -> None:
    connection, _ = server.accept()
    server.close()
    connection.recv(1)
    connection.close()


@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.create_campaign({}),
        lambda c: c.pause(1),
        lambda c: c.delete_campaign(1),
        lambda c: c.clear_blacklist(),
    ],
    ids=["create", "pause", "delete", "clear"],
)
async def test_what_has_no_stored_answer_is_sent_once(call: Call, kept: bool) -> None:
    """Only an add has a stored answer: a second pause would be judged anew, whatever the transport likes."""
    peer = Recorder(*["keep"] * kept, *["close"] * 3)
    async with peer.listening(), Client(peer.url, AK, SK, VDN) as client:
        if kept:
            await client.show_campaign(2)
        with pytest.raises(NoAnswer, match="was lost"):
            await call(client)
    assert len(peer.requests) == 1 + kept


@pytest.mark.parametrize(
    "call",
    [lambda c: c.show_campaign(1), lambda c: c.list_campaigns(), lambda c: c.query_blacklist(["1"])],
    ids=["one", "all", "blacklist"],
)
@pytest.mark.usefixtures("no_waits")
async def test_a_query_without_an_answer_is_asked_again_with_the_very_same_bytes(call: Call) -> None:
    peer = Recorder("close", "close", "answer")
    async with peer.listening(), Client(peer.url, AK, SK, VDN) as client:
        await call(client)
    assert (len(peer.requests), len(set(peer.requests))) == (3, 1)


@pytest.mark.parametrize("no", ["0200006", "429", "503"])
@pytest.mark.usefixtures("no_waits")
async def test_what_certainly_changed_nothing_is_sent_again_with_the_very_same_bytes(no: str) -> None:
    """semantics.md §2: 0200006 is said only where nothing was kept. For every verb, so for a pause."""
    async with Recorder(no, no, "answer").listening() as peer, Client(peer.url, AK, SK, VDN) as client:
        await client.pause(1)
    assert (len(peer.requests), len(set(peer.requests))) == (3, 1)


@pytest.mark.parametrize(("no", "kind"), [("0200006", DatabaseUnavailable), ("429", Busy), ("503", Busy)])
@pytest.mark.usefixtures("no_waits")
async def test_three_times_and_no_more(no: str, kind: type[ClientError]) -> None:
    async with Recorder(*[no] * 4).listening() as peer, Client(peer.url, AK, SK, VDN) as client:
        with pytest.raises(kind, match="nothing was"):
            await client.pause(1)
    assert len(peer.requests) == 3


@pytest.mark.parametrize("no", ["0200022", "0200024", "0200001", "500", "502", "401"])
@pytest.mark.usefixtures("no_waits")
async def test_what_the_server_refused_is_not_sent_again(no: str) -> None:
    async with Recorder(*[no] * 2).listening() as peer, Client(peer.url, AK, SK, VDN) as client:
        with pytest.raises(ClientError):
            await client.add_chunk(1, ["1"])
    assert len(peer.requests) == 1


@pytest.mark.parametrize("last", ["0200006", "503"])
@pytest.mark.usefixtures("no_waits")
async def test_a_lost_add_stays_unknown_until_a_try_is_judged(last: str) -> None:
    """That the last try changed nothing does not say so of the first, whose answer was lost."""
    async with Recorder("close", last, last).listening() as peer, Client(peer.url, AK, SK, VDN) as client:
        with pytest.raises(NoAnswer, match="sent 3 times, no answer"):
            await client.add_chunk(1, ["1"])


async def test_retry_after_is_waited_for_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": ("5", "86400", "soon")[len(waits)]})

    async with serving(busy) as address, Client(address, AK, SK, VDN) as client:
        with monkeypatch.context() as patched, pytest.raises(Busy) as failure:
            patched.setattr(transport.asyncio, "sleep", wait)
            await client.show_campaign(1)
    assert waits == [5.0, 10.0]
    assert failure.value.retry_after is None


@pytest.mark.usefixtures("no_waits")
async def test_a_refused_connection_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with Client(f"http://127.0.0.1:{port}", AK, SK, VDN) as client:
        with pytest.raises(NotConnected, match=rf"cannot connect to http://127\.0\.0\.1:{port}") as failure:
            await client.add_chunk(9, [])
    assert (failure.value.code, failure.value.http_status) == (None, None)


async def test_the_time_is_up() -> None:
    async with Recorder("hang").listening() as peer, Client(peer.url, AK, SK, VDN, timeout=0.2) as client:
        with pytest.raises(NoAnswer, match=r"no answer from http://127\.0\.0\.1:\d+ within 0\.2 s"):
            await client.pause(9)


# -- construction ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:80",
        "ftp://h",
        "http://",
        "http://h/p",
        "http://h?q=1",
        "http://h#f",
        "http://u:p@h",
        "http://h:99999",
    ],
)
def test_another_form_of_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(SettingError, match=r"url: must be http://host:port"):
        Client(url, AK, SK, VDN)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
        ("https://example.org", "example.org"),
        ("http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_the_host_has_the_port_of_the_url(url: str, host: str) -> None:
    assert Client(url, AK, SK, VDN).signed("GET", "/").headers["Host"] == host


@pytest.mark.parametrize("timeout", [0, -1, 241, float("nan")])
def test_a_timeout_out_of_range_is_refused_by_name(timeout: float) -> None:
    with pytest.raises(SettingError, match="timeout: "):
        Client("http://h", AK, SK, VDN, timeout=timeout)


@pytest.mark.parametrize("ak", ["", "a/b", "a b", "ключ", "a\n", "a" * 513])
def test_an_access_key_that_no_server_could_read_is_refused_by_name(ak: str) -> None:
    with pytest.raises(SettingError, match="access key: must be"):
        Client("http://h", ak, SK, VDN)


def test_an_empty_secret_is_refused_by_name() -> None:
    with pytest.raises(SettingError, match="secret key: is empty"):
        Client("http://h", AK, "", VDN)


async def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Client("http://127.0.0.1:1", AK, SK, VDN).pause(1)
    with pytest.raises(RuntimeError, match="with BlockingClient"):
        BlockingClient("http://127.0.0.1:1", AK, SK, VDN).pause(1)


def test_no_secret_and_no_body_in_a_repr() -> None:
    client = Client("http://h", AK, SK, VDN)
    request = client.signed("POST", "/x", body={"called": "13800138000"})
    assert SK not in repr(client)
    assert "138" not in repr(request)
    assert "auth-v2" not in repr(request)


# -- plain calls -------------------------------------------------------------------------------------------


async def test_plain_calls_run_on_a_thread_of_their_own_which_ends(verifier: Verifier, url: str) -> None:
    def work() -> tuple[list[str], bool]:
        with BlockingClient(url, AK, SK, VDN) as client:
            client.add_chunk(9, ["1"], idempotency_key="k")
            with pytest.raises(AuthenticationError), BlockingClient(url, AK, "other", VDN) as stranger:
                stranger.list_campaigns(page=2)
            running = [thread.name for thread in threading.enumerate() if thread.name == "outdial-client"]
        return running, any(thread.name == "outdial-client" for thread in threading.enumerate())

    running, alive = await asyncio.to_thread(work)
    assert verifier.seen[0]["line"] == f"POST {ROOT}/calldata/9"
    assert running == ["outdial-client"]
    assert not alive


def test_plain_calls_have_every_verb_of_the_client() -> None:
    verbs = {name for name in vars(Client) if not name.startswith("_")}
    assert verbs == {name for name in vars(BlockingClient) if not name.startswith("_")}


@pytest.mark.parametrize(("calls", "size", "rows", "pages"), [(True, 100, 230, 3), (False, 500, 500, 2)])
async def test_results_are_asked_for_page_by_page(calls: bool, size: int, rows: int, pages: int) -> None:
    """wire/data-api.md §6.1: 500 results or 100 calls a page, at most. A last page that is full is no end."""
    asked: list[dict[str, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.json())
        first = (asked[-1]["pageNum"] - 1) * size
        result = {"called": "1", "callId": None, "callStatus": "5", "failCode": "00538"}
        data = [result | {"sessionId": str(n)} for n in range(first, min(first + size, rows))]
        return web.json_response({"resultCode": "0200000", "data": data, "totalCount": rows})

    async with serving(answer) as address, Client(address, AK, SK, VDN) as client:
        found = [one.session_id async for one in client.results(9, session_id="s", begin="d", calls=calls)]
    assert found == [str(n) for n in range(rows)]
    same = {"sessionId": "s", "beginTime": "d", "showDetail": int(calls), "pageSize": size}
    assert asked == [same | {"pageNum": page} for page in range(1, pages + 1)]
