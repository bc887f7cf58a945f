"""The signing client of the interface, for the command line and for users' programs.

`Client` is async over aiohttp; `BlockingClient` runs one on a private loop thread and has the same verbs.
What is signed is what is sent: path, query, Host and body leave byte for byte as they were signed.

Signed are always `content-type`, `host` and, when given, `idempotency-key`: the scheme lets the signer
decide, and nothing that changes what a request means should be left open. The timestamp has milliseconds,
so that two requests made in one second are two requests and not one sent twice (semantics.md §3).
"""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from outdial import signing
from outdial.errors import Code, SettingError

CONTENT_TYPE = "application/json; charset=UTF-8"
RESEND_WAITS = (0.2, 1.0)
"""Seconds before the first and the second repeat of an add that got no answer."""
LONGEST_TIMEOUT = 240
"""Seconds: three tries in a row stay inside the 15 minutes in which a signature is valid."""

_ROOT = "/rest/isales/v1/openapi/campaigns"
_ROOT_V2 = "/rest/isales/v2/openapi/campaigns"
_KEEP_ALIVE = 3.0  # seconds; below the idle time after which servers commonly close a connection

P = ParamSpec("P")
T = TypeVar("T")


class ClientError(Exception):
    """A request did not succeed.

    `code` is the interface's result code, or None when no readable answer came; `http_status` and
    `request_id` (header X-Request-Id) are None when the answer did not bring them.
    """

    def __init__(
        self,
        code: str | None,
        description: str,
        http_status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        self.code = code
        self.description = description
        self.http_status = http_status
        self.request_id = request_id
        super().__init__(f"{code}: {description}" if code else description)


class NoAnswer(ClientError):
    """The connection was lost or the time was up before the answer: the request's fate is unknown."""


class NotConnected(ClientError):
    """No connection came about: nothing was sent."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request ready to be sent, once or again: the same bytes are the same request (guarantee G2)."""

    method: str
    target: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


class Client:
    """The interface of one VDN, spoken with one access key. Use it with `async with`.

    `url` is `http://host:port` or `https://host:port`, `timeout` the seconds that one try may take. Every
    verb returns the answer's JSON object when its resultCode is 0200000 and raises ClientError otherwise.
    Only `add_numbers` is ever sent a second time by itself.
    """

    def __init__(self, url: str, ak: str, sk: str, vdn: int, *, timeout: float = 30) -> None:
        """Raises SettingError for a url, access key, secret or timeout that cannot be right."""
        if not 0 < timeout <= LONGEST_TIMEOUT:
            raise SettingError(f"timeout: must be more than 0 and at most {LONGEST_TIMEOUT} s")
        self._origin = _origin(url)
        self._host = self._origin.raw_authority
        self._ak = ak
        self._sk = sk
        self._root = f"{_ROOT}/{vdn}"
        self._root_v2 = f"{_ROOT_V2}/{vdn}"
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        if not sk:
            raise SettingError("secret key: is empty")
        try:
            self.signed("GET", "/")
        except signing.BadSignature:
            raise SettingError("access key: must be 1 to 512 visible ASCII characters, no slash") from None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(keepalive_timeout=_KEEP_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            middlewares=(_send_once,),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- numbers ---------------------------------------------------------------------------------------

    async def add_numbers(
        self, campaign_id: int, entries: list[dict[str, Any]], *, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Add outbound numbers (the contract). Each entry has `called` and the optional fields of Table 4.

        An add without an answer is sent again, the very same signed bytes, at most twice: the server
        answers a repeat from store (semantics.md §3). Raises NoAnswer when no try was answered.
        """
        request = self.signed(
            "POST",
            f"{self._root}/calldata/{campaign_id}",
            body={"callDataList": entries},
            idempotency_key=idempotency_key,
        )
        lost: ClientError
        try:
            return await self.send(request)
        except NoAnswer as error:
            lost = error
        for wait in RESEND_WAITS:
            await asyncio.sleep(wait)
            try:
                return await self.send(request)
            except (NoAnswer, NotConnected) as error:
                lost = error
        raise NoAnswer(
            None, f"sent {1 + len(RESEND_WAITS)} times, no answer; the last time: {lost.description}"
        )

    async def delete_numbers(self, campaign_id: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Delete the numbers of a campaign that every filter in `body` fits; `all` 1 means every number."""
        return await self._call("POST", f"{self._root}/calldata/{campaign_id}/delete", body=body)

    # -- results ---------------------------------------------------------------------------------------

    async def query_results(self, campaign_id: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Query a campaign's results: `totalCount` and a page of them in `data`."""
        return await self._call("POST", f"{self._root}/callresult/{campaign_id}", body=body)

    async def show_call(self, call_id: str) -> dict[str, Any]:
        """Query one call that has ended; it is the answer's `data`."""
        return await self._call("GET", f"{self._root}/callresultdetail/{quote(call_id, safe='')}")

    # -- campaigns -------------------------------------------------------------------------------------

    async def create_campaign(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create a campaign (V1); the answer's `returnObject.id` is its id."""
        return await self._call("POST", self._root, body=body)

    async def create_campaign_v2(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create a campaign (V2): with several calling numbers, priority and retry policy."""
        return await self._call("POST", self._root_v2, body=body)

    async def modify_campaign(self, campaign_id: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Modify a campaign (V2) that is not ended; what `body` does not name stays, if it is optional."""
        return await self._call("PUT", f"{self._root_v2}/{campaign_id}", body=body)

    async def list_campaigns(
        self, name: str | None = None, status: int = 0, device_type: int = 0, page: int = 1, rows: int = 100
    ) -> dict[str, Any]:
        """Query campaigns, one page of `rows` (at most 100); 0 means every status, every device type."""
        query: dict[str, str | int] = {"status": status, "deviceType": device_type}
        if name is not None:
            query["name"] = name
        return await self._call("GET", self._root, query=query | {"curPage": page, "rowsPerPage": rows})

    async def show_campaign(self, campaign_id: int) -> dict[str, Any]:
        """Query one campaign."""
        return await self._call("GET", f"{self._root}/{campaign_id}")

    async def pause(self, campaign_id: int) -> dict[str, Any]:
        """Pause a started campaign."""
        return await self._call("PUT", f"{self._root}/{campaign_id}/pause")

    async def resume(self, campaign_id: int) -> dict[str, Any]:
        """Start a draft or suspended campaign."""
        return await self._call("PUT", f"{self._root}/{campaign_id}/resume")

    async def delete_campaign(self, campaign_id: int, archive_history: int = 0) -> dict[str, Any]:
        """Delete a campaign that is not started; `archive_history` 1 keeps its history."""
        body = {"archiveHistory": archive_history}
        return await self._call("DELETE", f"{self._root}/{campaign_id}", body=body)

    # -- retry policy, special dates -------------------------------------------------------------------

    async def set_retry_policy(self, campaign_id: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Set which numbers are tried again: `policyType`, `policyJson`, `noRetryPolicy`."""
        return await self._call("POST", f"{self._root}/retryPolicy/{campaign_id}", body=body)

    async def show_retry_policy(self, campaign_id: int) -> dict[str, Any]:
        """Query the retry policy; it is the answer's `data`."""
        return await self._call("GET", f"{self._root}/retryPolicy/{campaign_id}")

    async def list_special_dates(self, campaign_id: int) -> dict[str, Any]:
        """List the special dates of a campaign."""
        return await self._call("GET", f"{self._root}/holiday/{campaign_id}")

    async def add_special_date(self, campaign_id: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a special date for a campaign, or give it one that the VDN has (`id`)."""
        return await self._call("POST", f"{self._root}/holiday/{campaign_id}", body=body)

    async def modify_special_date(self, campaign_id: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Modify a special date (`id`), in every campaign that uses it."""
        return await self._call("PUT", f"{self._root}/holiday/{campaign_id}", body=body)

    async def delete_special_dates(
        self, campaign_id: int, special_date_id: int | None = None
    ) -> dict[str, Any]:
        """Take one special date from a campaign; None: all of them."""
        one = "" if special_date_id is None else f"/{special_date_id}"
        return await self._call("DELETE", f"{self._root}/holiday/{campaign_id}{one}")

    # -- blacklist -------------------------------------------------------------------------------------

    async def add_to_blacklist(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Add up to 20 numbers (`blocklist`) to the VDN's blacklist."""
        return await self._call("POST", f"{self._root}/blocklist/add", body=body)

    async def delete_from_blacklist(self, number: str) -> dict[str, Any]:
        """Take one number off the VDN's blacklist."""
        return await self._call("POST", f"{self._root}/blocklist/delete", body={"blocklistNo": number})

    async def clear_blacklist(self) -> dict[str, Any]:
        """Take every number off the VDN's blacklist."""
        return await self._call("DELETE", f"{self._root}/blocklist")

    async def query_blacklist(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Query the VDN's blacklist: `blocklist` (at most 20 numbers), or `offset` and `limit`."""
        return await self._call("POST", f"{self._root}/blocklist/query", body=body)

    # -- any request -----------------------------------------------------------------------------------

    def signed(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: object = None,
        idempotency_key: str | None = None,
    ) -> SignedRequest:
        """Sign a request now, without sending it. `path` begins with a slash and is taken as it is.

        `body` is any value that JSON can hold; None means no body. Raises ValueError or TypeError for one
        that JSON cannot hold.
        """
        raw_query = urlencode(query) if query else ""
        raw_body = b"" if body is None else json.dumps(body, allow_nan=False).encode("ascii")
        headers = {"Content-Type": CONTENT_TYPE, "Host": self._host}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        authorization = signing.sign(
            self._sk,
            self._ak,
            method,
            path.encode(),
            raw_query.encode("ascii"),
            [(name.encode(), value.encode()) for name, value in headers.items()],
            raw_body,
            datetime.now(UTC),
            milliseconds=True,
        )
        target = f"{path}?{raw_query}" if raw_query else path
        return SignedRequest(method, target, raw_body, {**headers, "Authorization": authorization})

    async def send(self, request: SignedRequest) -> dict[str, Any]:
        """Send a signed request once and return the answer's JSON object.

        Raises ClientError for an answer that is not a success, NotConnected when nothing was sent, NoAnswer
        when the answer did not come.
        """
        if self._session is None:
            raise RuntimeError("the client is not open: use `async with Client(...)`")
        try:
            async with self._session.request(
                request.method,
                URL(f"{self._origin}{request.target}", encoded=True),
                data=request.body or None,
                headers=request.headers,
                allow_redirects=False,
            ) as answer:
                return _judge(answer, await answer.read())
        except aiohttp.ClientConnectorError as error:
            raise NotConnected(
                None, f"cannot connect to {self._origin}: {error.strerror or error}"
            ) from error
        except TimeoutError as error:
            raise NoAnswer(None, f"no answer from {self._origin} within {self._timeout:g} s") from error
        except aiohttp.ClientError as error:
            raise NoAnswer(None, f"the connection to {self._origin} was lost: {error}") from error

    async def _call(
        self, method: str, path: str, *, query: Mapping[str, str | int] | None = None, body: object = None
    ) -> dict[str, Any]:
        return await self.send(self.signed(method, path, query=query, body=body))


async def _send_once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep the transport from sending a GET, PUT or DELETE again when the connection is lost.

    It does so for errors of its own kind only, so the loss leaves here as an error of ours. A pause that
    took effect and is sent again would be refused, and its caller misled.
    """
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise  # nothing was sent
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise NoAnswer(None, f"the connection to {request.url.origin()} was lost: {error}") from error


def _origin(url: str) -> URL:
    try:
        parsed = URL(url)
        whole = parsed.scheme in {"http", "https"} and bool(parsed.raw_host) and parsed.raw_path_qs == "/"
    except ValueError:
        whole = False
    if not whole or parsed.user is not None or parsed.password is not None or parsed.raw_fragment:
        raise SettingError("url: must be http://host:port or https://host:port, nothing after it")
    return parsed.origin()


def _judge(answer: aiohttp.ClientResponse, content: bytes) -> dict[str, Any]:
    request_id = answer.headers.get("X-Request-Id")
    try:
        envelope = json.loads(content.decode())
        code, description = envelope["resultCode"], envelope.get("resultDesc")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        text = f"HTTP {answer.status} ({answer.content_type}): the answer is not one of this interface"
        raise ClientError(None, text, answer.status, request_id) from None
    if code != Code.OK.wire or answer.status != 200:
        raise ClientError(str(code), str(description or ""), answer.status, request_id)
    return dict(envelope)


def _blocking(
    verb: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[BlockingClient, P], T]:
    @functools.wraps(verb)
    def call(self: BlockingClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(verb(self._client, *args, **kwargs))

    return call


class BlockingClient:
    """`Client` for programs without a loop: the same verbs as plain calls. Use it with `with`.

    Runs one Client on a loop thread of its own; calls from several threads run side by side.
    """

    def __init__(self, url: str, ak: str, sk: str, vdn: int, *, timeout: float = 30) -> None:
        """Raises SettingError as Client does."""
        self._client = Client(url, ak, sk, vdn, timeout=timeout)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="outdial-client", daemon=True)
        self._thread.start()
        self._run(self._client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop, thread = self._loop, self._thread
        assert loop is not None
        assert thread is not None
        try:
            self._run(self._client.__aexit__(None, None, None))
        finally:
            self._loop = self._thread = None
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            call.close()
            raise RuntimeError("the client is not open: use `with BlockingClient(...)`")
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    add_numbers = _blocking(Client.add_numbers)
    delete_numbers = _blocking(Client.delete_numbers)
    query_results = _blocking(Client.query_results)
    show_call = _blocking(Client.show_call)
    create_campaign = _blocking(Client.create_campaign)
    create_campaign_v2 = _blocking(Client.create_campaign_v2)
    modify_campaign = _blocking(Client.modify_campaign)
    list_campaigns = _blocking(Client.list_campaigns)
    show_campaign = _blocking(Client.show_campaign)
    pause = _blocking(Client.pause)
    resume = _blocking(Client.resume)
    delete_campaign = _blocking(Client.delete_campaign)
    set_retry_policy = _blocking(Client.set_retry_policy)
    show_retry_policy = _blocking(Client.show_retry_policy)
    list_special_dates = _blocking(Client.list_special_dates)
    add_special_date = _blocking(Client.add_special_date)
    modify_special_date = _blocking(Client.modify_special_date)
    delete_special_dates = _blocking(Client.delete_special_dates)
    add_to_blacklist = _blocking(Client.add_to_blacklist)
    delete_from_blacklist = _blocking(Client.delete_from_blacklist)
    clear_blacklist = _blocking(Client.clear_blacklist)
    query_blacklist = _blocking(Client.query_blacklist)
