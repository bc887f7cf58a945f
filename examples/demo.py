"""The main job from end to end: create a campaign, add numbers, call them, print the pushed results.

It starts `outdial dev` on a free port with data that is removed again, so it needs nothing but the package.
The last two digits of a number choose how the simulated carrier ends its call.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from outdial.client import BlockingClient

ENDINGS = {
    "01": "answered",
    "02": "answering machine",
    "03": "busy",
    "04": "no answer",
    "05": "invalid number",
    "06": "congestion",
    "07": "answered while we gave up",
    "08": "answered, then dropped",
    "09": "rejected",
    "10": "no reply at all",
}
NUMBERS = [f"80025500{digits}" for digits in ENDINGS]


def main() -> int:
    """Run it; 0 when every number has its result."""
    dev = subprocess.Popen(
        [sys.executable, "-m", "outdial", "dev", "--json", "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert dev.stdout is not None
    try:
        lines = iter(dev.stdout)
        place = json.loads(next(lines))
        print(f"the server is ready at {place['url']}, VDN {place['vdn']}")
        campaign = start_campaign(place)
        print(f"campaign {campaign} is started with {len(NUMBERS)} numbers; results as they are pushed:")
        results = {result["called"]: result for result in pushed(lines, campaign)}
    finally:
        dev.send_signal(signal.SIGTERM)
        dev.wait(timeout=40)
    missing = [number for number in NUMBERS if number not in results]
    print(f"{len(results)} of {len(NUMBERS)} numbers have their result; the server has stopped")
    return 1 if missing or dev.returncode else 0


def start_campaign(place: dict[str, Any]) -> int:
    """Create a campaign that rings 5 seconds, add the numbers, start it; its id."""
    with BlockingClient(place["url"], place["ak"], place["sk"], place["vdn"]) as client:
        catcher = client.show_campaign(place["campaign"]).callback_url
        now = datetime.now(UTC)
        campaign = client.create_campaign(
            {
                "name": "demo",
                "strBeginTime": f"{now:%Y-%m-%d} 00:00:00",
                "strEndTime": f"{now + timedelta(days=1):%Y-%m-%d %H:%M:%S}",
                "deviceType": 3,
                "callerNo": "100",
                "maxAlertingTime": 5,
                "scheduleParam": {"workdayBeginTime1": "00:00", "workdayEndTime1": "24:00"},
                "ivrParam": {"deviceSign": "demo", "callCount": 5, "callInterval": 1},
                "initStatus": 1,
                "callBackUrl": catcher,
            }
        )
        entries = [{"sessionId": f"order-{n}", "called": number} for n, number in enumerate(NUMBERS, 1)]
        client.add_numbers(campaign, entries)
        client.resume(campaign)
        return campaign


def pushed(lines: Iterator[str], campaign: int) -> Iterator[dict[str, Any]]:
    """The campaign's results as the catcher prints them, until every number has one."""
    waiting = set(NUMBERS)
    while waiting:
        result = json.loads(next(lines))
        if result["campaignId"] != str(campaign):
            continue
        ending = ENDINGS[result["called"][-2:]]
        print(
            f"  {result['called']}  {result['sessionId']:9} {ending:26}"
            f" callStatus {result['callStatus']}  failCode {result['failCode']}",
            flush=True,
        )
        waiting.discard(result["called"])
        yield result


if __name__ == "__main__":
    sys.exit(main())
