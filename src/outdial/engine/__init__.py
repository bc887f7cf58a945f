"""The asyncio shell of the dialer.

shell.py    one run: it claims, gives the switch its orders, feeds back what happens; lease, recovery, stop
claiming.py one claim under the campaign's lock
ledger.py   ends of attempts, kept until they are stored
trunking.py what a SIP switch asks the store
transferring.py whether an answered call may be handed over
host.py     who of this machine's runs is gone
"""

from outdial.engine.shell import LEASE, Engine, read_clock
from outdial.store.calls import Fenced

__all__ = ["LEASE", "Engine", "Fenced", "read_clock"]
