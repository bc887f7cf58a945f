"""Isolation and deletion are seen red with their guard taken out (trust.md A.4: drop-tenant-filter)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from face import OLD, OTHER, Face, Server
from test_tenant_matrix import ask, deleted_is_gone, own

from mutating import copy_of_src

pytestmark = [pytest.mark.long, pytest.mark.guard]

SHOW = ("v1", "*/*", "GET")
LIVING = "-- name: campaign\nSELECT * FROM campaign WHERE vdn_id = $1 AND campaign_id = $2"


def a_stranger_is_refused(face: Face) -> None:
    """The key of one VDN, on the path of another."""
    campaign, date = own(face, SHOW, OTHER)
    answer = ask(face, SHOW, OTHER, campaign, date, by=OLD)
    assert answer.status == 401


def anothers_is_not_there(face: Face) -> None:
    """The campaign of one VDN, on the path and with the key of another."""
    campaign, date = own(face, SHOW, OTHER)
    assert ask(face, SHOW, OLD, campaign, date).code == "0200007"


BUGS: dict[str, tuple[str, str, str, Callable[[Face], None]]] = {
    "any key for any VDN": (
        "web/access.py",
        "if vdn.vdn_id != vdn_id:",
        "if False:",
        a_stranger_is_refused,
    ),
    "the tenant's filter": (
        "store/queries/campaigns.sql",
        LIVING,
        "-- name: campaign\nSELECT * FROM campaign WHERE ($1::int IS NOT NULL) AND campaign_id = $2",
        anothers_is_not_there,
    ),
    "a deleted campaign still answers": (
        "store/queries/campaigns.sql",
        f"{LIVING} AND deleted_at IS NULL\n",
        f"{LIVING}\n",
        lambda face: deleted_is_gone(face, SHOW),
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_without_its_guard_it_is_seen(make_server: Server, tmp_path: Path, bug: str) -> None:
    """And not without the bug."""
    file, text, instead, sees = BUGS[bug]
    source = copy_of_src(tmp_path, (file, text, instead))
    with make_server(source=source) as face, pytest.raises(AssertionError):
        sees(face)
    with make_server() as face:
        sees(face)
