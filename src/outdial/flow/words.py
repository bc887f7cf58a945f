"""The steps of a flow, what a run asks for, and what it is told: all of them values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from outdial.flow.template import Template

KEYS: Final = "0123456789*#ABCD"
"""The keys of a telephone (RFC 4733 §3.2)."""

NORMAL_CLEARING: Final = 16
"""Q.850: the call is over because one of its parties wanted so."""

# -- steps -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlayStep:
    """Play prompts one after the other. `interruptible`: a key stops them, and goes to the next collect."""

    prompts: tuple[Template, ...]
    interruptible: bool
    next: str
    otherwise: str | None = None


@dataclass(frozen=True, slots=True)
class SayStep:
    """Speak a text."""

    text: Template
    interruptible: bool
    next: str
    otherwise: str | None = None


@dataclass(frozen=True, slots=True)
class CollectStep:
    """Take up to `max` keys into a variable; timeouts in seconds. The prompts are stopped by a key."""

    into: str
    max: int
    first_timeout: float
    next_timeout: float
    terminators: str
    tries: int
    prompts: tuple[Template, ...]
    next: str
    otherwise: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One way out of a branch: the value is among `values`, begins with `prefix`, or (both None) is there."""

    next: str
    values: tuple[str, ...] | None = None
    prefix: str | None = None

    def holds(self, value: str) -> bool:
        """Whether a value that is there takes this way."""
        if self.values is not None:
            return value in self.values
        return self.prefix is None or value.startswith(self.prefix)


@dataclass(frozen=True, slots=True)
class BranchStep:
    """Go on by a value: the first case that holds, else `otherwise`."""

    on: Template
    cases: tuple[Case, ...]
    otherwise: str


@dataclass(frozen=True, slots=True)
class SetStep:
    """Give a variable a value."""

    into: str
    value: Template
    next: str
    otherwise: str | None = None


@dataclass(frozen=True, slots=True)
class HangupStep:
    """End the call with a Q.850 cause."""

    cause: int


class TransferMode(StrEnum):
    """How a call is handed over."""

    REFER = "refer"  # the far end calls the target itself (RFC 3515)
    BRIDGE = "bridge"  # we call the target and join the two calls


@dataclass(frozen=True, slots=True)
class TransferStep:
    """Hand the call over. `otherwise`: when the target was not reached."""

    target: Template
    mode: TransferMode
    otherwise: str | None = None


Step = PlayStep | SayStep | CollectStep | BranchStep | SetStep | HangupStep | TransferStep


class OnMachine(StrEnum):
    """What an answering machine gets."""

    CONTINUE = "continue"  # the flow, like everybody: no detection
    HANGUP = "hangup"
    WAIT_FOR_BEEP = "wait_for_beep"


@dataclass(frozen=True, slots=True)
class Flow:
    """A checked flow. `prompts` are the names that it can be known to play; `says`: it needs a voice."""

    start: str
    steps: Mapping[str, Step]
    max_seconds: float
    on_machine: OnMachine = OnMachine.CONTINUE
    after_beep: str | None = None
    prompts: frozenset[str] = frozenset()
    says: bool = False


# -- actions ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlayPrompt:
    """Play these prompts in turn; answered by one `AudioDone` with the same token."""

    names: tuple[str, ...]
    interruptible: bool
    token: int


@dataclass(frozen=True, slots=True)
class SayText:
    """Speak; answered by one `AudioDone` with the same token."""

    text: str
    interruptible: bool
    token: int


@dataclass(frozen=True, slots=True)
class StopAudio:
    """Stop what is being played or said; an `AudioDone` of it that still comes is ignored."""


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Send `TimerDone(token)` after so many seconds. None is ever stopped: the run ignores stale ones."""

    seconds: float
    token: int


@dataclass(frozen=True, slots=True)
class ListenForMachine:
    """Have the detector judge who answered; answered by one `MachineVerdict`."""


@dataclass(frozen=True, slots=True)
class WaitForBeep:
    """Have the detector listen for a machine's beep; answered by one `BeepHeard`, or never."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the call: the last action of a run. `reason` is for the log and holds no value of the call."""

    cause: int = NORMAL_CLEARING
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Hand the call over; answered by `TransferDone`."""

    target: str
    mode: TransferMode


FlowAction = (
    PlayPrompt | SayText | StopAudio | StartTimer | ListenForMachine | WaitForBeep | HangUp | Transfer
)

# -- events ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AudioDone:
    """Prompts or speech are over. `played` false: not there, or could not be made."""

    token: int
    played: bool = True


@dataclass(frozen=True, slots=True)
class Key:
    """The called side pressed a key."""

    key: str


@dataclass(frozen=True, slots=True)
class TimerDone:
    """The time of `StartTimer` is over."""

    token: int


class Verdict(StrEnum):
    """Who answered, as the detector heard it."""

    HUMAN = "human"
    MACHINE = "machine"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class MachineVerdict:
    """The detector has decided."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class BeepHeard:
    """The machine's beep is over: it records."""


@dataclass(frozen=True, slots=True)
class TransferDone:
    """A refer was taken over or a bridged call has ended (`ok`), or the target was not reached."""

    ok: bool


@dataclass(frozen=True, slots=True)
class HungUp:
    """The call is over, whoever ended it."""


FlowEvent = AudioDone | Key | TimerDone | MachineVerdict | BeepHeard | TransferDone | HungUp
