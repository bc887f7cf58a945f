"""`outdial dev`: everything on loopback in one command, and a catcher that prints the pushed results."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from outdial import compose, logs
from outdial.config import Settings, is_loopback
from outdial.errors import SettingError
from outdial.model import (
    AccessKey,
    CallWindow,
    Campaign,
    CampaignState,
    DeviceType,
    TimerPacing,
    Vdn,
)
from outdial.service import Service
from outdial.store.campaigns import CampaignFilter
from outdial.store.embedded import remove_cluster
from outdial.store.postgres import utc_now
from outdial.store.sealing import create_master_key
from outdial.store.store import Store
from outdial.supervisor import Supervisor, as_init
from outdial.web.server import listening_socket

VDN = 1
CAMPAIGN_NAME = "dev"
READY_WITHIN = 30.0
LOOPBACK = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True)
class Playground:
    """What a developer connects with."""

    url: str
    key: AccessKey
    campaign_id: int
    callback_url: str


def dev(settings: Settings, *, json_lines: bool) -> int:
    """Run until Ctrl-C; the exit status. Raises `SettingError`."""
    as_init()
    if not is_loopback(settings.address()[0]):
        raise SettingError("listen: dev listens on loopback only (127.0.0.0/8 or ::1), with plain HTTP")
    with _folder(settings.data) as data:
        settled = settings.with_options(
            data=data,
            push_allow=(*settings.push_allow, *LOOPBACK),
            log_level=os.environ.get("OUTDIAL_LOG_LEVEL", "error"),
            stop_grace=min(settings.stop_grace, 2.0),
        )
        logs.configure(settled.log_level, "supervisor")
        create_master_key(data)
        with (
            compose.listening(settled) as sock,
            compose.database(settled) as (running, postgres),
            compose.scratch() as folder,
        ):
            supervisor = compose.supervised(running, sock, postgres, folder)
            host, port = sock.getsockname()[:2]
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            asyncio.run(_run(running, supervisor, url, _say_json if json_lines else _say))
    return 0


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """The data folder; a temporary one goes at exit, with its key."""
    if given is not None:
        yield given
        return
    parent = Path(tempfile.mkdtemp(prefix="outdial-dev-"))
    parent.chmod(0o711)  # PostgreSQL's user passes through when we are root; what is in it is closed
    try:
        yield parent / "data"
    finally:
        remove_cluster(parent / "data")
        shutil.rmtree(parent, ignore_errors=True)


async def _run(
    settings: Settings, supervisor: Supervisor, url: str, say: Callable[[Playground | Any], None]
) -> None:
    await compose.prepare(settings)
    async with compose.opened(settings, "outdial dev", size=2) as store:
        running = asyncio.create_task(supervisor.run())
        playground, catcher = await _playground(store, url, say)
        try:
            await supervisor.ready(READY_WITHIN)
            say(playground)
            await running
        finally:
            supervisor.stop()
            await asyncio.wait([running])
            await catcher.cleanup()
        if running.exception() is not None:
            raise running.exception() or SettingError("the server has ended")


async def _playground(store: Store, url: str, say: Callable[[Any], None]) -> tuple[Playground, web.AppRunner]:
    """VDN, key, campaign and catcher, the same at every start on the same folder."""
    await store.vdns.create(Vdn(VDN))
    key = await _key(store)
    campaign = await _campaign(store)
    before = urlsplit(campaign.callback_url or "").port if campaign else None
    catcher, callback_url = await _catcher(say, before)
    if campaign is None:
        campaign_id = await Service(store).create_campaign(_draft(callback_url))
    else:
        campaign_id = campaign.campaign_id
        if campaign.callback_url != callback_url:
            await store.campaigns.move_callback(VDN, campaign_id, callback_url)
    return Playground(url, key, campaign_id, callback_url), catcher


async def _key(store: Store) -> AccessKey:
    for known in await store.vdns.keys_of(VDN):
        if known.revoked_at is None and (key := await store.vdns.key(known.ak)) is not None:
            return key
    return await store.vdns.create_key(VDN)


async def _campaign(store: Store) -> Campaign | None:
    found, _ = await store.campaigns.page(VDN, CampaignFilter(name=CAMPAIGN_NAME), limit=1000, offset=0)
    now = utc_now()
    same = [one for one in found if one.name == CAMPAIGN_NAME and one.end_at > now]
    return same[0] if same else None


def _draft(callback_url: str) -> Campaign:
    today = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
    return Campaign(
        vdn_id=VDN,
        campaign_id=0,
        name=CAMPAIGN_NAME,
        description="made by outdial dev",
        device_type=DeviceType.AUTOMATIC_IVR,
        state=CampaignState.DRAFT,
        begin_at=today,
        end_at=today + timedelta(days=3650),
        caller_no="100",
        max_alerting_time=30,
        windows=(CallWindow(0, 1440), None, None),
        pacing=TimerPacing("", 10, 1),
        callback_url=callback_url,
    )


async def _catcher(say: Callable[[Any], None], port: int | None) -> tuple[web.AppRunner, str]:
    """A receiver of results that prints them; on the port of an earlier start, if that is free."""

    async def caught(request: web.Request) -> web.Response:
        for result in await request.json():
            say(result)
        return web.json_response({"retCode": "0", "retMsg": "success"})

    app = web.Application()
    app.router.add_post("/results", caught)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        sock = listening_socket("127.0.0.1", port or 0)
    except SettingError:
        sock = listening_socket("127.0.0.1", 0)
    await web.SockSite(runner, sock).start()
    return runner, f"http://127.0.0.1:{sock.getsockname()[1]}/results"


def _say_json(said: Playground | Any) -> None:
    if isinstance(said, Playground):
        said = {
            "url": said.url,
            "ak": said.key.ak,
            "sk": said.key.secret,
            "vdn": said.key.vdn_id,
            "campaign": said.campaign_id,
        }
    print(json.dumps(said, ensure_ascii=False), flush=True)


def _say(said: Playground | Any) -> None:
    if not isinstance(said, Playground):
        print(f"result  {json.dumps(said, ensure_ascii=False)}", flush=True)
        return
    where = (
        f"OUTDIAL_URL={said.url} OUTDIAL_VDN={said.key.vdn_id}"
        f" OUTDIAL_AK={said.key.ak} OUTDIAL_SK={said.key.secret} {_program()}"
    )
    print(
        f"""
outdial dev: everything on this machine, with a simulated carrier. Not for production.

  URL       {said.url}
  AK        {said.key.ak}
  SK        {said.key.secret}
  VDN       {said.key.vdn_id}
  campaign  {said.campaign_id}, a draft; its results are pushed to {said.callback_url} and printed here

In another terminal, one line adds numbers (the last two digits choose how a call ends: 01 answered,
02 machine, 03 busy, 04 no answer, 05 invalid, 06 congestion, 09 rejected), the other starts the campaign:

{where} numbers add {said.campaign_id} 80001 80002 80003
{where} campaign start {said.campaign_id}

Ctrl-C ends it.
""",
        flush=True,
    )


def _program() -> str:
    """How this command was called, so that the printed lines work where it is not on the PATH."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m outdial"
    on_path = str(called.parent) in os.environ.get("PATH", "").split(os.pathsep)
    return called.name if on_path else shlex.quote(str(called))
