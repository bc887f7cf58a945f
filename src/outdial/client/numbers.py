"""Numbers on their way into a campaign: any iterable of them in chunks of 20, a second apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from outdial.client.errors import OF_ITS_NUMBERS, ClientError, NoAnswer, TooFast

AT_A_TIME = 20
"""Entries of one request (contract, Restrictions)."""
BETWEEN = 1.0
"""Seconds from the answer of an accepted add to the next add to that campaign (contract, Restrictions)."""
REPEAT_AFTER = 0.25
"""Seconds until an add that came too soon, because others add too, is sent again."""
PATIENCE = 30.0
"""Seconds for which one chunk that comes too soon is sent again."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number to add, with what belongs to it (contract, Table 4). Only `called` is needed.

    `recycle_time` is `yyyy-mm-dd hh:mm:ss` in the VDN's time zone; `priority` ("1" to "5") is of edition
    2025-11.
    """

    called: str
    session_id: str | None = None
    caller: str | None = None
    custom_field: str | None = None
    recycle_time: str | None = None
    call_data: str | None = None
    priority: str | None = None


_WIRE = {
    "called": "called",
    "session_id": "sessionId",
    "caller": "caller",
    "custom_field": "customField",
    "recycle_time": "recycleTime",
    "call_data": "callData",
    "priority": "priority",
}

NumberLike = str | Number | Mapping[str, Any]
"""A number to add: its digits, a `Number`, or a mapping with the names of the contract's Table 4."""


def entry(number: NumberLike) -> dict[str, Any]:
    """The entry of a request. Raises TypeError for what is no number."""
    if isinstance(number, str):
        return {"called": number}
    if isinstance(number, Number):
        found = {wire: getattr(number, name) for name, wire in _WIRE.items()}
        return {name: value for name, value in found.items() if value is not None}
    if isinstance(number, Mapping):
        return dict(number)
    raise TypeError(f"numbers: each must be a str, a Number or a mapping, not {type(number).__name__}")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One request of an add: its numbers in order, and what became of them.

    `error` None: they are in, `total_size` counts the campaign's incomplete numbers, and `data_ids` are
    the server's ids by called number in edition 2025-11. Otherwise none is in; or, for `NoAnswer`, all or
    none.
    """

    numbers: tuple[str, ...] = field(repr=False)
    total_size: int | None = None
    data_ids: Mapping[str, str] = field(default_factory=dict, repr=False)
    error: ClientError | None = None


@dataclass(slots=True)
class AddReport:
    """What an add has achieved so far, chunk by chunk."""

    chunks: list[Chunk] = field(default_factory=list)

    @property
    def accepted(self) -> list[str]:
        """The numbers that are in, in order."""
        return [number for chunk in self.chunks if chunk.error is None for number in chunk.numbers]

    @property
    def refused(self) -> list[Chunk]:
        """The chunks that are not in, each with its error."""
        return [one for one in self.chunks if one.error is not None and not isinstance(one.error, NoAnswer)]

    @property
    def unknown(self) -> list[str]:
        """The numbers of a chunk that got no answer: all of them are in, or none."""
        return [number for one in self.chunks if isinstance(one.error, NoAnswer) for number in one.numbers]

    @property
    def total_size(self) -> int | None:
        """The campaign's incomplete numbers after the last accepted chunk; None when there was none."""
        return next((one.total_size for one in reversed(self.chunks) if one.error is None), None)


def stops(chunk: Chunk, *, go_on: bool) -> bool:
    """Whether an add ends with this chunk: `go_on` passes over refusals of the chunk's own numbers only."""
    return chunk.error is not None and not (go_on and isinstance(chunk.error, OF_ITS_NUMBERS))


def chunks_of(numbers: Iterable[NumberLike]) -> Iterator[list[dict[str, Any]]]:
    """The entries, 20 at a time, taken from `numbers` only as they are needed. Raises TypeError."""
    if isinstance(numbers, str | Mapping | Number):
        raise TypeError("numbers: give a list of numbers, not one number")
    left = iter(numbers)
    while taken := [entry(number) for number in islice(left, AT_A_TIME)]:
        yield taken


async def chunks_of_any(
    numbers: Iterable[NumberLike] | AsyncIterable[NumberLike],
) -> AsyncIterator[list[dict[str, Any]]]:
    """The same for an iterable or an async iterable. Raises TypeError."""
    if not isinstance(numbers, AsyncIterable):
        for taken in chunks_of(numbers):
            yield taken
        return
    waiting: list[dict[str, Any]] = []
    async for number in numbers:
        waiting.append(entry(number))
        if len(waiting) == AT_A_TIME:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


class Pace:
    """When a campaign takes the next chunk: one at a time, a second after the last accepted answer."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self._free_at = 0.0

    def accepted(self) -> None:
        """An add was answered with success now."""
        self._free_at = asyncio.get_running_loop().time() + BETWEEN

    async def wait(self) -> None:
        """Until the second is over."""
        left = self._free_at - asyncio.get_running_loop().time()
        if left > 0:
            await asyncio.sleep(left)


async def patiently(add: Callable[[], Awaitable[Chunk]]) -> Chunk:
    """Call `add`, and again while it comes too soon because others add to the campaign too."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + PATIENCE
    while True:
        try:
            return await add()
        except TooFast:
            if loop.time() >= give_up:
                raise
        await asyncio.sleep(REPEAT_AFTER)
