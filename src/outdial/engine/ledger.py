"""Answers and ends of attempts on their way to the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import structlog

from outdial.dialing import Remember, Remembered, Settle, Withdraw
from outdial.errors import CommitUnknown, StoreUnavailable
from outdial.metrics import ATTEMPTS, SETTLE_SECONDS
from outdial.retry import next_try
from outdial.store.store import Store

log = structlog.get_logger()

_BATCH: Final = 200
"""Answers, and settlements and withdrawals, stored at once."""

_GATHER_ANSWERS: Final = 0.02
_GATHER_ENDS: Final = 0.05
"""Seconds in which more gather for one transaction. A callee waits for an answer, nobody for an end."""

_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 1.0
"""Seconds before a batch that was not stored is tried again: the first wait, doubled up to the longest."""


class Ledger:
    """Answers, settlements and withdrawals on their way to the store; kept until they are there.

    Answers go by a way of their own, past the locks that settlements wait for: a callee waits for them.
    """

    def __init__(self, store: Store, tell: Callable[[Remembered], None]) -> None:
        """`tell` hears which answers are stored."""
        self._store = store
        self._tell = tell
        self._answers: dict[UUID, Remember] = {}
        self._some_answer = asyncio.Event()
        self._waiting: dict[UUID, Settle | Withdraw] = {}
        self._since: dict[UUID, float] = {}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, attempt_id: UUID) -> bool:
        return attempt_id in self._waiting

    def add(self, end: Settle | Withdraw) -> None:
        """Store this as soon as may be. The first word about an attempt holds."""
        key = end.settlement.attempt_id if isinstance(end, Settle) else end.attempt_id
        self._answers.pop(key, None)
        self._waiting.setdefault(key, end)
        self._since.setdefault(key, time.monotonic())
        self._some.set()

    def remember(self, answer: Remember) -> None:
        """Store this answer as soon as may be; an end that comes before holds it too."""
        self._answers[answer.attempt_id] = answer
        self._some_answer.set()

    async def remember_on(self) -> None:
        """Write all answers that wait, batch by batch."""
        while True:
            await self._some_answer.wait()
            await asyncio.sleep(_GATHER_ANSWERS)
            batch = list(self._answers.values())[:_BATCH]
            try:
                await self._store.calls.remember(batch)
            except StoreUnavailable as error:
                log.warning(
                    "store unavailable", doing="remember answers", waiting=len(batch), reason=str(error)
                )
                await asyncio.sleep(_FIRST_WAIT)
                continue
            for answer in batch:
                self._answers.pop(answer.attempt_id, None)
            if not self._answers:
                self._some_answer.clear()
            self._tell(Remembered(tuple(answer.attempt_id for answer in batch)))

    async def write_on(self) -> None:
        """Write all that waits, batch by batch: what comes while one is written is the next."""
        wait = _FIRST_WAIT
        while True:
            await self._some.wait()
            await asyncio.sleep(_GATHER_ENDS)
            batch = list(self._waiting.items())[:_BATCH]
            try:
                await self._write([end for _, end in batch])
            except (StoreUnavailable, CommitUnknown) as error:
                log.warning("store unavailable", doing="settle", waiting=len(self), reason=str(error))
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
                continue
            wait = _FIRST_WAIT
            for key, end in batch:
                del self._waiting[key]
                self._count(end, self._since.pop(key))
            if not self._waiting:
                self._some.clear()

    def _count(self, end: Settle | Withdraw, since: float) -> None:
        if isinstance(end, Settle):
            ATTEMPTS.add(end.settlement.disposition)
            SETTLE_SECONDS.observe(time.monotonic() - since)

    async def _write(self, ends: Sequence[Settle | Withdraw]) -> None:
        settlements = [end.settlement for end in ends if isinstance(end, Settle)]
        if settlements:
            await self._store.calls.settle(settlements, next_try)
        withdrawn = [end for end in ends if isinstance(end, Withdraw)]
        for vdn_id in sorted({end.vdn_id for end in withdrawn}):
            ids = [end.attempt_id for end in withdrawn if end.vdn_id == vdn_id]
            await self._store.calls.withdraw(vdn_id, ids)
