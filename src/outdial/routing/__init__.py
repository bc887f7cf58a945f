"""Which trunk takes a call, and whether any may: dial plan, allowed destinations, the state of the trunks.

rules.py     what is dialed, what is allowed, which refusals lead to another trunk
faults.py    what the fields of a trunk may be
rate.py      calls a second
breaker.py   when a trunk is left alone
board.py     all trunks of one engine: room, choice, standing
"""

from outdial.routing.board import Bar, Board, TrunkStanding
from outdial.routing.faults import Fault, faults, name_fault, prefix_fault
from outdial.routing.rules import EVERYTHING, allowed, check_caller, dial_string, fails_over, refusal

__all__ = [
    "EVERYTHING",
    "Bar",
    "Board",
    "Fault",
    "TrunkStanding",
    "allowed",
    "check_caller",
    "dial_string",
    "fails_over",
    "faults",
    "name_fault",
    "prefix_fault",
    "refusal",
]
