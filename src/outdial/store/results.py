"""Results on their way out: the outbox, leased row by row to the processes that push."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from outdial.errors import SettingError
from outdial.model import CallResult, Delivery, Disposition
from outdial.store.history import result_of
from outdial.store.postgres import Connection, Postgres
from outdial.store.vdns import Vdns

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A result that its receiver has not taken. `due_at` None: the documented pushes are used up."""

    result_id: UUID
    campaign_id: int
    url: str
    pushes: int
    due_at: datetime | None
    last_error: str | None
    created_at: datetime
    disposition: Disposition


@dataclass(frozen=True, slots=True)
class NotDelivered:
    """A push that failed. The next is due at `due_at`, or never by itself (None)."""

    delivery: Delivery
    due_at: datetime | None
    error: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is in the outbox: results that wait, results whose pushes are used up, and since when at most."""

    waiting: int
    given_up: int
    oldest: datetime | None


class Results:
    """The outbox of all VDNs."""

    def __init__(self, db: Postgres, now: Callable[[], datetime], vdns: Vdns) -> None:
        self._db = db
        self._now = self.now = now
        self._vdns = vdns

    async def lease(self, *, per_receiver: int, lease: float, full: Sequence[str] = ()) -> list[Delivery]:
        """Due deliveries, at most `per_receiver` of one URL and none of the `full` ones.

        They are this process's for `lease` seconds; after that another may take them. One whose webhook
        secret cannot be opened is logged and left out: it must not leave unsigned.
        """
        now = self._now()
        rows = await self._db.fetch(
            "lease_deliveries", now, now + timedelta(seconds=lease), per_receiver, list(full)
        )
        return [delivery for row in rows if (delivery := self._delivery(row)) is not None]

    async def delivered(self, results: Sequence[CallResult]) -> None:
        """The receivers have taken these results. May be repeated."""
        await self._db.fetch("delivered", *_keys(results), self._now())

    async def not_delivered(self, failures: Sequence[NotDelivered]) -> None:
        """These pushes failed. May be repeated: a push counts once."""
        await self._db.fetch(
            "not_delivered",
            *_keys([failure.delivery.result for failure in failures]),
            [failure.delivery.pushes for failure in failures],
            [failure.due_at for failure in failures],
            [failure.error for failure in failures],
        )

    async def release(self, results: Sequence[CallResult]) -> None:
        """Give leased deliveries back, untried."""
        await self._db.fetch("release_deliveries", *_keys(results))

    async def undelivered(self, vdn_id: int, *, limit: int = 100) -> list[Undelivered]:
        """Results of the VDN whose push has failed at least once, oldest first."""
        return [
            Undelivered(**{**dict(row), "disposition": Disposition(row["disposition"])})
            for row in await self._db.fetch("undelivered", vdn_id, limit)
        ]

    async def send_again(self, vdn_id: int, result_ids: Sequence[UUID] | None = None) -> int:
        """Start the pushes of these (None: all undelivered) results afresh; returns how many.

        They go to where their campaigns' results go now.
        """
        ids = list(result_ids) if result_ids is not None else None
        return len(await self._db.fetch("send_again", vdn_id, self._now(), ids))

    async def backlog(self) -> Backlog:
        """The whole outbox, counted."""
        return Backlog(**await self._db.fetchrow("backlog"))

    async def receiver_urls(self) -> list[str]:
        """Where results go or wait to go, of all VDNs."""
        return [row["url"] for row in await self._db.fetch("receiver_urls")]

    async def listen(self, heard: Callable[[], None]) -> Connection:
        """Call `heard` whenever results have been posted, and once when the connection is lost."""
        return await self._db.listen("outdial_outbox", heard)

    def _delivery(self, row: Any) -> Delivery | None:
        result = result_of(row)
        try:
            secret = self._vdns.webhook_secret(row["vdn_id"], row["webhook_secret"])
        except SettingError as error:
            log.error("push held back", vdn=result.vdn_id, result=str(result.result_id), error=str(error))
            return None
        return Delivery(result, row["url"], row["pushes"], row["time_zone"], secret)


def _keys(results: Sequence[CallResult]) -> tuple[list[int], list[UUID]]:
    return [result.vdn_id for result in results], [result.result_id for result in results]
