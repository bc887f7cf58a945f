"""The store as its callers see it: one verb per use, by resource."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from outdial.store.audit import Audit
from outdial.store.blacklist import Blacklist
from outdial.store.calls import Calls
from outdial.store.campaigns import Campaigns
from outdial.store.erasure import Erasure
from outdial.store.flows import Flows
from outdial.store.hiding import Hiding
from outdial.store.history import History
from outdial.store.numbers import Numbers
from outdial.store.postgres import Postgres, utc_now
from outdial.store.records import Records
from outdial.store.results import Results
from outdial.store.retention import Retention
from outdial.store.sealing import Keyring, MasterKey
from outdial.store.secrets import Secrets
from outdial.store.special_dates import SpecialDates
from outdial.store.statistics import Statistics
from outdial.store.transfers import Transfers
from outdial.store.trunks import Trunks
from outdial.store.vdns import Vdns


class Store:
    """An async context: `async with Store(dsn, master_key) as store`."""

    def __init__(
        self,
        dsn: str,
        master_key: MasterKey | Callable[[], MasterKey | None] | None,
        *,
        size: int = 4,
        name: str = "outdial",
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.db = Postgres(dsn, size=size, name=name)
        keyring = Keyring(master_key if callable(master_key) else lambda: master_key)
        self.vdns = Vdns(self.db, now, keyring)
        self.campaigns = Campaigns(self.db, now, self.vdns)
        self.special_dates = SpecialDates(self.db)
        hiding = Hiding(self.db, keyring)
        self.numbers = Numbers(self.db, now, hiding)
        self.blacklist = Blacklist(self.db, now, hiding)
        self.calls = Calls(self.db, now, hiding)
        self.transfers = Transfers(self.db, now, self.calls)
        self.records = Records(self.db)
        self.history = History(self.db)
        self.results = Results(self.db, now, self.vdns)
        self.trunks = Trunks(self.db, now, keyring)
        self.secrets = Secrets(self.db, keyring)
        self.flows = Flows(self.db, now)
        self.statistics = Statistics(self.db)
        self.audit = Audit(self.db)
        self.retention = Retention(self.db)
        self.erasure = Erasure(self.db, now, hiding)

    async def __aenter__(self) -> Self:
        await self.db.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.db.close()

    async def ready(self) -> None:
        """Raises `StoreUnavailable` when the store does not answer."""
        await self.db.fetch("ready")
