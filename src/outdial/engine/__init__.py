"""The asyncio shell of the dialer.

shell.py    one run: it claims, gives the switch its orders, feeds back what happens; lease, recovery, stop
ledger.py   ends of attempts, kept until they are stored
host.py     who of this machine's runs is gone
"""

from outdial.engine.shell import LEASE, Engine, read_clock
from outdial.store.calls import Fenced

__all__ = ["LEASE", "Engine", "Fenced", "read_clock"]
