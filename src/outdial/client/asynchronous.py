"""`Client`: every verb of the interface for programs with an asyncio loop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

from outdial.client import results
from outdial.client.environment import place
from outdial.client.errors import ClientError, UnexpectedAnswer
from outdial.client.numbers import (
    AddReport,
    Chunk,
    NumberLike,
    Pace,
    chunks_of_any,
    entry,
    patiently,
    stops,
)
from outdial.client.results import (
    BlacklistEntry,
    BlacklistPage,
    CallResult,
    Campaign,
    CampaignPage,
    CampaignSummary,
    DeletedNumbers,
    EndedCall,
    ResultPage,
    RetryPolicy,
    SpecialDate,
)
from outdial.client.transport import Answer, SignedRequest, Transport

T = TypeVar("T")

MOST_ROWS = 100
"""Rows of one page, at most."""

MOST_RESULTS, MOST_CALLS = 500, 100
"""Rows of one page of results: of numbers, and of calls (wire/data-api.md §6.1)."""

_ROOT = "/rest/isales/v1/openapi/campaigns"
_ROOT_V2 = "/rest/isales/v2/openapi/campaigns"


class Client:
    """The interface of one VDN, spoken with one access key. Use it with `async with`.

    `url` is `http://host:port` or `https://host:port`, `timeout` the seconds that one try may take. An
    https server is verified against the system's CAs, or those of `ca_file`, or by the `fingerprint`
    (`sha256:HEX`) of its own certificate; where neither is given, the variables OUTDIAL_CA and
    OUTDIAL_FINGERPRINT count.

    Every verb raises `ClientError` when it does not succeed; a body is a mapping with the interface's own
    names. A request is sent again, at most twice and with the same bytes, where that is safe: when it
    certainly changed nothing, and, for queries and adds, also when its answer was lost.
    """

    def __init__(
        self,
        url: str,
        ak: str,
        sk: str,
        vdn: int,
        *,
        timeout: float = 30,
        ca_file: str | os.PathLike[str] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        """Raises SettingError for an argument that cannot be right."""
        self._transport = Transport(url, ak, sk, timeout=timeout, ca_file=ca_file, fingerprint=fingerprint)
        self._root = f"{_ROOT}/{vdn}"
        self._root_v2 = f"{_ROOT_V2}/{vdn}"
        self._paces: dict[int, Pace] = {}

    @classmethod
    def from_environment(cls, *, timeout: float = 30) -> Self:
        """The client that OUTDIAL_URL, OUTDIAL_AK, OUTDIAL_SK and OUTDIAL_VDN name. Raises SettingError."""
        return cls(*place(), timeout=timeout)

    async def __aenter__(self) -> Self:
        self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    # -- numbers -------------------------------------------------------------------------------------------

    async def add_numbers(
        self,
        campaign_id: int,
        numbers: Iterable[NumberLike] | AsyncIterable[NumberLike],
        *,
        go_on: bool = False,
    ) -> AddReport:
        """Add any number of numbers, 20 a request and a second apart; says which of them are in.

        Ends at the first chunk that is not accepted, with that chunk's error; the error's `report` says
        what is in. With `go_on`, chunks that are refused for their own numbers (`ParameterError`,
        `DuplicateNumbers`, `NumberBlacklisted`) are passed over: they are the report's `refused`. Raises
        ClientError and, for what is no number, TypeError.
        """
        report = AddReport()
        try:
            async for chunk in self.add_in_chunks(campaign_id, numbers, go_on=go_on):
                report.chunks.append(chunk)
        except ClientError as error:
            if error.chunk is not None:
                report.chunks.append(error.chunk)
            error.report = report
            raise
        return report

    async def add_in_chunks(
        self,
        campaign_id: int,
        numbers: Iterable[NumberLike] | AsyncIterable[NumberLike],
        *,
        go_on: bool = False,
    ) -> AsyncIterator[Chunk]:
        """The same, chunk by chunk as they are answered. Numbers are taken only as they are needed.

        The error that ends it has the chunk in `chunk`.
        """
        async for entries in chunks_of_any(numbers):
            yield await self._add_paced(campaign_id, entries, go_on=go_on)

    async def add_chunk(
        self, campaign_id: int, numbers: Iterable[NumberLike], *, idempotency_key: str | None = None
    ) -> Chunk:
        """Add at most 20 numbers in one request, now: all of them, or none. Raises ClientError.

        `idempotency_key` makes requests that are signed anew one request, for 24 hours.
        """
        entries = [entry(number) for number in numbers]
        request = self.signed(
            "POST",
            f"{self._root}/calldata/{campaign_id}",
            body={"callDataList": entries},
            idempotency_key=idempotency_key,
        )
        answer = await self._transport.deliver(request, repeatable=True)
        self._pace(campaign_id).accepted()
        total_size, data_ids = _read(answer.envelope, results.added)
        return Chunk(_called(entries), total_size, data_ids)

    def _pace(self, campaign_id: int) -> Pace:
        return self._paces.setdefault(campaign_id, Pace())

    async def _add_paced(self, campaign_id: int, entries: list[dict[str, Any]], *, go_on: bool) -> Chunk:
        pace = self._pace(campaign_id)
        async with pace.turn:
            await pace.wait()
            try:
                return await patiently(lambda: self.add_chunk(campaign_id, entries))
            except ClientError as error:
                chunk = error.chunk = Chunk(_called(entries), error=error)
                if stops(chunk, go_on=go_on):
                    raise
                return chunk

    # -- campaigns -----------------------------------------------------------------------------------------

    async def create_campaign(self, body: Mapping[str, Any]) -> int:
        """Create a campaign (V1); its id."""
        return _read(await self._do("POST", self._root, body=body), _id)

    async def create_campaign_v2(self, body: Mapping[str, Any]) -> int:
        """Create a campaign (V2), with several calling numbers, priority and retry policy; its id."""
        return _read(await self._do("POST", self._root_v2, body=body), _id)

    async def modify_campaign(self, campaign_id: int, body: Mapping[str, Any]) -> None:
        """Modify a campaign (V2) that is not ended; what `body` does not name stays, if it is optional."""
        await self._do("PUT", f"{self._root_v2}/{campaign_id}", body=body)

    async def list_campaigns(
        self,
        name: str | None = None,
        status: int = 0,
        device_type: int = 0,
        page: int = 1,
        rows: int = MOST_ROWS,
    ) -> CampaignPage:
        """Query one page of campaigns, newest first; 0 means every status, every device type."""
        query: dict[str, str | int] = {"status": status, "deviceType": device_type}
        if name is not None:
            query["name"] = name
        query |= {"curPage": page, "rowsPerPage": rows}
        found = await self._ask("GET", self._root, query=query)
        return _read(found, results.campaign_page)

    async def campaigns(
        self, name: str | None = None, status: int = 0, device_type: int = 0
    ) -> AsyncIterator[CampaignSummary]:
        """Every campaign, newest first, page by page; one that is created meanwhile may be missed."""
        page, seen = 1, set[int]()
        while found := (await self.list_campaigns(name, status, device_type, page)).campaigns:
            for one in found:
                if one.id not in seen:  # a new campaign moves the others to later pages
                    yield one
            seen |= {one.id for one in found}
            if len(found) < MOST_ROWS:
                return
            page += 1

    async def show_campaign(self, campaign_id: int) -> Campaign:
        """Query one campaign."""
        found = await self._ask("GET", f"{self._root}/{campaign_id}")
        return _read(found, results.campaign)

    async def pause(self, campaign_id: int) -> None:
        """Pause a started campaign: no call leaves later than a second after the answer."""
        await self._do("PUT", f"{self._root}/{campaign_id}/pause")

    async def resume(self, campaign_id: int) -> None:
        """Start a draft campaign, or let a suspended one go on."""
        await self._do("PUT", f"{self._root}/{campaign_id}/resume")

    async def delete_campaign(self, campaign_id: int, *, archive_history: bool = False) -> None:
        """Delete a campaign that is not started; `archive_history` keeps its numbers and results."""
        body = {"archiveHistory": int(archive_history)}
        await self._do("DELETE", f"{self._root}/{campaign_id}", body=body)

    async def delete_numbers(self, campaign_id: int, body: Mapping[str, Any]) -> DeletedNumbers:
        """Delete the numbers of a campaign that every filter in `body` fits; `all` 1 means every number."""
        found = await self._do("POST", f"{self._root}/calldata/{campaign_id}/delete", body=body)
        return _read(found, results.deleted_numbers)

    # -- results -------------------------------------------------------------------------------------------

    async def list_results(self, campaign_id: int, body: Mapping[str, Any]) -> ResultPage:
        """Query a page of a campaign's results (`pageNum`, `pageSize`), oldest call first."""
        return _read(
            await self._ask("POST", f"{self._root}/callresult/{campaign_id}", body=body), results.result_page
        )

    async def results(
        self,
        campaign_id: int,
        *,
        session_id: str | None = None,
        custom_field: str | None = None,
        begin: str | None = None,
        end: str | None = None,
        calls: bool = False,
    ) -> AsyncIterator[CallResult]:
        """Every result of a campaign, oldest call first: one for each number that is done, or every call.

        `begin` and `end` are days (yyyy-mm-dd in the VDN's time zone) from and before which calls count, at
        most 30 days apart. Results that come meanwhile may be missed.
        """
        given = {"sessionId": session_id, "customField": custom_field, "beginTime": begin, "endTime": end}
        body: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        size, page = MOST_CALLS if calls else MOST_RESULTS, 0
        body |= {"showDetail": int(calls), "pageSize": size}
        found: list[CallResult] = []
        while len(found) == size or not page:
            page += 1
            found = (await self.list_results(campaign_id, body | {"pageNum": page})).results
            for one in found:
                yield one

    async def show_call(self, call_id: str) -> EndedCall:
        """Query one call that has ended."""
        found = await self._ask("GET", f"{self._root}/callresultdetail/{quote(call_id, safe='')}")
        return _read(found, results.ended_call)

    # -- retry policy, special dates -----------------------------------------------------------------------

    async def set_retry_policy(self, campaign_id: int, body: Mapping[str, Any]) -> None:
        """Set which numbers are tried again: `policyType`, `policyJson`, `noRetryPolicy`."""
        await self._do("POST", f"{self._root}/retryPolicy/{campaign_id}", body=body)

    async def show_retry_policy(self, campaign_id: int) -> RetryPolicy:
        """Query the retry policy."""
        found = await self._ask("GET", f"{self._root}/retryPolicy/{campaign_id}")
        return _read(found, results.retry_policy)

    async def list_special_dates(self, campaign_id: int) -> list[SpecialDate]:
        """List the special dates of a campaign."""
        found = await self._ask("GET", f"{self._root}/holiday/{campaign_id}")
        return _read(found, results.special_dates)

    async def add_special_date(self, campaign_id: int, body: Mapping[str, Any]) -> int:
        """Make a special date for a campaign, or give it one that the VDN has (`id`); its id."""
        found = await self._do("POST", f"{self._root}/holiday/{campaign_id}", body=body)
        return _read(found, _id)

    async def modify_special_date(self, campaign_id: int, body: Mapping[str, Any]) -> None:
        """Modify a special date (`id`), in every campaign that uses it."""
        await self._do("PUT", f"{self._root}/holiday/{campaign_id}", body=body)

    async def delete_special_dates(self, campaign_id: int, special_date_id: int | None = None) -> None:
        """Take one special date from a campaign; None: all of them."""
        one = "" if special_date_id is None else f"/{special_date_id}"
        await self._do("DELETE", f"{self._root}/holiday/{campaign_id}{one}")

    # -- blacklist -----------------------------------------------------------------------------------------

    async def add_to_blacklist(
        self,
        numbers: Iterable[str],
        *,
        hours: int | None = None,
        expires: str | None = None,
        restrict_times: int | None = None,
        per: Literal["hour", "day"] | None = None,
        overwrite: bool | None = None,
    ) -> None:
        """Add up to 20 numbers to the VDN's blacklist, all or none.

        For so many `hours` (1 to 120), until `expires` (`yyyy-mm-dd hh:mm:ss` in the VDN's zone), or for
        good. `restrict_times` calls `per` hour or day stay allowed. `overwrite` (edition 2025-11): what
        becomes of those that are there.
        """
        fields = {
            "validityTime": hours,
            "validityExpirationTime": expires,
            "restrictTimes": restrict_times,
            "restrictPeriod": {"hour": "0", "day": "1"}[per] if per is not None else None,
            "isCoverDupNo": int(overwrite) if overwrite is not None else None,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        await self._do("POST", f"{self._root}/blocklist/add", body={"blocklist": list(numbers)} | given)

    async def delete_from_blacklist(self, number: str) -> None:
        """Take one number off the VDN's blacklist."""
        await self._do("POST", f"{self._root}/blocklist/delete", body={"blocklistNo": number})

    async def clear_blacklist(self) -> None:
        """Take every number off the VDN's blacklist."""
        await self._do("DELETE", f"{self._root}/blocklist")

    async def query_blacklist(self, numbers: Iterable[str]) -> list[BlacklistEntry]:
        """Those of up to 20 numbers that are on the VDN's blacklist."""
        return (await self._blacklist({"blocklist": list(numbers)})).entries

    async def list_blacklist(self, offset: int = 0, limit: int = MOST_ROWS) -> BlacklistPage:
        """Query one page of the VDN's blacklist, in number order."""
        return await self._blacklist({"offset": offset, "limit": limit})

    async def blacklist(self) -> AsyncIterator[BlacklistEntry]:
        """Every entry of the VDN's blacklist, page by page; one that moves meanwhile may be missed."""
        offset = 0
        while found := (await self.list_blacklist(offset)).entries:
            for one in found:
                yield one
            offset += len(found)

    async def _blacklist(self, body: Mapping[str, Any]) -> BlacklistPage:
        found = await self._ask("POST", f"{self._root}/blocklist/query", body=body)
        return _read(found, results.blacklist_page)

    # -- any request ---------------------------------------------------------------------------------------

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
        return self._transport.signed(method, path, query=query, body=body, idempotency_key=idempotency_key)

    async def send(self, request: SignedRequest) -> Answer:
        """Send a signed request once, the same one as often as you like. Raises ClientError."""
        return await self._transport.send(request)

    async def _ask(self, method: str, path: str, **parts: Any) -> Mapping[str, Any]:
        return (await self._transport.deliver(self.signed(method, path, **parts), repeatable=True)).envelope

    async def _do(self, method: str, path: str, **parts: Any) -> Mapping[str, Any]:
        return (await self._transport.deliver(self.signed(method, path, **parts), repeatable=False)).envelope


def _id(envelope: Mapping[str, Any]) -> int:
    return int(envelope["returnObject"]["id"])


def _read(envelope: Mapping[str, Any], reader: Callable[[Mapping[str, Any]], T]) -> T:
    """What a success tells. Raises UnexpectedAnswer when a field is missing or of another kind."""
    try:
        return reader(envelope)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnexpectedAnswer(None, f"a success without what belongs to it: {error}", 200) from error


def _called(entries: list[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(str(one.get("called", "")) for one in entries)
