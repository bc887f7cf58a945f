"""One add, sent by 32 clients at once, has one effect and one answer, whatever is killed (G2; trust.md R18).

Rows and stored answer are one statement: no kill comes between them. A kill around its COMMIT leaves both, or
neither, and the repeats that follow find out which, over other processes and after a restart of everything.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from adding import NO_STORE, make_campaigns
from repeating import CLIENTS, Repeat, Round, repeated, send
from serving import VDN, Serve, Server

from outdial.client import Client

SEED = 20261125
ROLES = (("api",), ("backend",))


def client_of(server: Server) -> Client:
    key = server.make_vdn()
    return Client(server.url, key.ak, key.secret, VDN)


def rounds_of(server: Server, client: Client, count: int, *, until_a_fault: bool = False) -> list[Round]:
    """Rounds in which the api processes, or the database's, are killed; keyed ones and others in turn."""
    chance = random.Random(SEED)
    found: list[Round] = []
    for nth, campaign in enumerate(make_campaigns(server, count)):
        roles = ROLES[nth // 2 % 2]
        kind = {"keyed": bool(nth % 2), "early": nth % 4 == 1}
        found.append(repeated(server, client, campaign, chance, roles, **kind))
        if until_a_fault and found[-1].fault:
            break
    return found


def told(found: list[Round]) -> str:
    refused = sum((one.refused for one in found), start=Counter[str]())
    return (
        f"seed {SEED}: {len(found)} adds by {CLIENTS} clients each;"
        f" requests under way at the kills {sum(one.under_way for one in found)},"
        f" cut off {sum(one.cut for one in found)}, refused {dict(refused)};"
        f" adds kept whose first answer nobody heard {sum(one.kept_unheard for one in found)};"
        f" faults {[one.fault for one in found if one.fault]}"
    )


def proves(found: list[Round]) -> None:
    """One effect and one answer each; the kills landed, and the clients were at it together."""
    print(told(found))
    assert [one.fault for one in found if one.fault] == []
    assert min(one.overlap for one in found) >= 2, "no two were under way at the same time"
    assert all(set(one.refused) <= {NO_STORE} for one in found), "a repeat was refused"


def same_answer_after_the_death_of_everything(server: Server, client: Client) -> None:
    """An add is accepted; all is killed and started again; the same bytes come three times more."""
    campaign = server.rows("SELECT min(campaign_id) AS first FROM campaign")[0]["first"]
    before = len(server.rows("SELECT FROM contact WHERE campaign_id = $1", campaign))
    body = {"callDataList": [{"called": "1"}, {"called": "2"}]}
    request = client.signed("POST", f"/rest/isales/v1/openapi/campaigns/{VDN}/calldata/{campaign}", body=body)
    first = Repeat()
    send(server.port, request, first)
    server.kill(random.Random(SEED))
    server.start()
    again = [Repeat() for _ in range(3)]
    for one in again:
        send(server.port, request, one)
    assert not first.replayed
    assert [(one.replayed, one.body) for one in again] == [(True, first.body)] * 3
    assert len(server.rows("SELECT FROM contact WHERE campaign_id = $1", campaign)) == before + 2


@pytest.mark.timeout(200)
def test_one_add_32_times_through_kills_has_one_effect(serve: Serve) -> None:
    server = serve(api_processes=3)
    client = client_of(server)
    found = rounds_of(server, client, 4)
    proves(found)
    assert sum(one.under_way > 0 for one in found) >= 2, "the kills came too late: nothing is proved"
    assert sum(one.kept_unheard for one in found) >= 1, "no kill fell between effect and answer"
    same_answer_after_the_death_of_everything(server, client)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_24_adds_32_times_through_kills(serve: Serve) -> None:
    """In some the kill came before the effect, in some after it and before its answer."""
    server = serve(api_processes=3)
    found = rounds_of(server, client_of(server), 24)
    proves(found)
    assert sum(one.under_way > 0 for one in found) >= 12
    assert sum(one.kept_unheard for one in found) >= 1, "no kill fell between effect and answer"
    assert sum(bool(one.cut) and one.fresh == 1 for one in found) >= 1, "no kill fell before the effect"
