"""`outdial campaign why`: everything that holds a campaign back, from the store."""

from __future__ import annotations

from outdial.cli.campaign_change import app
from outdial.cli.examples import examples
from outdial.cli.failures import Refused
from outdial.cli.output import instant, print_json, print_rows
from outdial.cli.store_access import OfVdn, StoreOptions, administer, with_store
from outdial.cli.targets import CampaignId, Json

__all__ = ["app", "why"]


@app.command(
    epilog=examples("outdial campaign why 46 --vdn 1 --data /srv/outdial", "outdial campaign why 46 --json")
)
@with_store
def why(
    *,
    campaign: CampaignId,
    vdn: OfVdn,
    options: StoreOptions,
    json: Json = False,
) -> None:
    """Say everything that holds a campaign or some of its numbers back, and until when (administration).

    It needs the store alone: whether or not a server runs.
    """
    from outdial.reasons import reasons
    from outdial.store.postgres import utc_now

    facts = administer(options, lambda store: store.calls.facts(vdn, campaign))
    if facts is None:
        raise Refused(f"VDN {vdn} has no campaign {campaign}")
    found = [(one.cause.value, one.sentence, instant(one.until)) for one in reasons(facts, utc_now())]
    if json:
        print_json([dict(zip(("cause", "sentence", "until"), row, strict=True)) for row in found])
    elif found:
        print_rows(("cause", "what", "until (UTC)"), found)
    else:
        print("nothing holds it back")
