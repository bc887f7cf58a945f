"""`make bench`: every row of the benchmarks, measured side by side in one run. `--long`: more rounds."""

from __future__ import annotations

import asyncio
import platform
import sys

import admission
import agent
import calls
import claims
import media
import neighbours
import ready


def main() -> None:
    """Print where it runs, then the rows."""
    print(f"Python {platform.python_version()}, {platform.machine()}; CPU seconds are user and system time")
    if "--small" in sys.argv:
        size = admission.Size(
            campaigns=400, blacklist=10_000, per_full=5_000, requests=300, rounds=1, waves=5
        )
    else:
        size = admission.Size(rounds=7 if "--long" in sys.argv else 3)
    ready.measure(1 if "--small" in sys.argv else 3)
    if "--small" in sys.argv:
        media.measure((200,), 0.5)
    else:
        media.measure((500, 1000, 1500), 10.0 if "--long" in sys.argv else 2.0)
    _calls(small="--small" in sys.argv, long="--long" in sys.argv)
    asyncio.run(admission.measure(size))
    neighbours.measure(small="--small" in sys.argv)


def _calls(*, small: bool, long: bool) -> None:
    """The rows about calls over SIP, and with `--long` those about claims."""
    if small:
        agent.measure((100,), 1.0, 1)
        asyncio.run(calls.measure((50,), 2, 1))
        asyncio.run(claims.measure((10_000, 20_000), 50, 1))
        return
    agent.measure((300, 1000), 10.0 if long else 3.0, 3 if long else 2)
    asyncio.run(calls.measure((300, 1000), 8 if long else 5, 3))
    if long:
        asyncio.run(claims.measure((100_000, 10_000_000), 1000, 3))


if __name__ == "__main__":
    main()
