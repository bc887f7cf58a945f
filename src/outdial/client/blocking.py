"""`BlockingClient`: the same verbs as plain calls."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from outdial.client.asynchronous import Client
from outdial.client.environment import place
from outdial.client.errors import ClientError
from outdial.client.numbers import AddReport, Chunk, NumberLike, chunks_of
from outdial.client.transport import SignedRequest

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    verb: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[BlockingClient, P], T]:
    @functools.wraps(verb)
    def call(self: BlockingClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(verb(self._client, *args, **kwargs))

    return call


def _iterating(
    verb: Callable[Concatenate[Client, P], AsyncIterator[T]],
) -> Callable[Concatenate[BlockingClient, P], Iterator[T]]:
    @functools.wraps(verb)
    def call(self: BlockingClient, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        found = verb(self._client, *args, **kwargs)

        async def following() -> tuple[T, ...]:
            async for one in found:
                return (one,)
            return ()

        while one := self._run(following()):
            yield one[0]

    return call


class BlockingClient:
    """`Client` for programs without a loop: the same verbs as plain calls. Use it with `with`.

    Runs one Client on a loop thread of its own; calls from several threads run side by side. What you
    iterate over is taken in your thread.
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
        """Raises SettingError as Client does."""
        self._client = Client(url, ak, sk, vdn, timeout=timeout, ca_file=ca_file, fingerprint=fingerprint)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @classmethod
    def from_environment(cls, *, timeout: float = 30) -> Self:
        """The client that OUTDIAL_URL, OUTDIAL_AK, OUTDIAL_SK and OUTDIAL_VDN name. Raises SettingError."""
        return cls(*place(), timeout=timeout)

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
            self._run(loop.shutdown_asyncgens())
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

    def add_numbers(
        self, campaign_id: int, numbers: Iterable[NumberLike], *, go_on: bool = False
    ) -> AddReport:
        """As `Client.add_numbers`."""
        report = AddReport()
        try:
            for chunk in self.add_in_chunks(campaign_id, numbers, go_on=go_on):
                report.chunks.append(chunk)
        except ClientError as error:
            if error.chunk is not None:
                report.chunks.append(error.chunk)
            error.report = report
            raise
        return report

    def add_in_chunks(
        self, campaign_id: int, numbers: Iterable[NumberLike], *, go_on: bool = False
    ) -> Iterator[Chunk]:
        """As `Client.add_in_chunks`."""
        for entries in chunks_of(numbers):
            yield self._run(self._client._add_paced(campaign_id, entries, go_on=go_on))

    @property
    def signed(self) -> Callable[..., SignedRequest]:
        """As `Client.signed`; it sends nothing."""
        return self._client.signed

    send = _blocking(Client.send)
    add_chunk = _blocking(Client.add_chunk)
    create_campaign = _blocking(Client.create_campaign)
    create_campaign_v2 = _blocking(Client.create_campaign_v2)
    modify_campaign = _blocking(Client.modify_campaign)
    list_campaigns = _blocking(Client.list_campaigns)
    campaigns = _iterating(Client.campaigns)
    show_campaign = _blocking(Client.show_campaign)
    pause = _blocking(Client.pause)
    resume = _blocking(Client.resume)
    delete_campaign = _blocking(Client.delete_campaign)
    delete_numbers = _blocking(Client.delete_numbers)
    list_results = _blocking(Client.list_results)
    results = _iterating(Client.results)
    show_call = _blocking(Client.show_call)
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
    list_blacklist = _blocking(Client.list_blacklist)
    blacklist = _iterating(Client.blacklist)
