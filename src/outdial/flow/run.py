"""One call in a flow: a state machine that is told events and answers with actions.

The flow begins at once. Where it says what a machine gets, the detector listens meanwhile: its verdict
"machine" stops the flow, unless a key was pressed before. A transfer waits for the verdict.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping
from enum import Enum
from typing import Final

from outdial.flow.fields import is_target
from outdial.flow.template import MAX_VALUE, NoValue, Template
from outdial.flow.words import (
    KEYS,
    NORMAL_CLEARING,
    AudioDone,
    BeepHeard,
    BranchStep,
    CollectStep,
    Flow,
    FlowAction,
    FlowEvent,
    HangUp,
    HangupStep,
    HungUp,
    Key,
    ListenForMachine,
    MachineVerdict,
    OnMachine,
    PlayPrompt,
    PlayStep,
    SayStep,
    SayText,
    SetStep,
    StartTimer,
    Step,
    StopAudio,
    TimerDone,
    Transfer,
    TransferDone,
    TransferMode,
    TransferStep,
    Verdict,
    WaitForBeep,
)

STEPS_WITHOUT_KEY: Final = 250
"""Steps after the last key at which a run gives up: more than a flow can have without going round."""

BEEP_WITHIN: Final = 30.0
"""Seconds that a machine's greeting may last; then the flow goes on as if there had been a beep."""

VERDICT_WITHIN: Final = 10.0
"""Seconds that a transfer waits for a verdict."""

REMEMBERED: Final = 200
"""Visited steps and keys that are kept for the record."""

TYPED_AHEAD: Final = 32
"""Keys that are kept for a collect to come."""

LONGEST_TEXT: Final = 2000
"""Characters of a text to say, its values put in."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TIME_OVER: Final = "the flow's time is over"
_DEADLINE: Final = 0  # the token of the flow's own time


class _At(Enum):
    """What the run waits for, besides the end."""

    STEP = 1  # audio, keys or a timer of the present step
    BEEP = 2
    VERDICT = 3  # to transfer
    TRANSFER = 4
    END = 5


class FlowRun:
    """The run of a flow in one call.

    `values` are those of `values_of`. `visited` (step names), `keys` and `variables` are the record of the
    call; `machine`: the detector found one; `reason`: why the run ended. `keys` and `variables` hold what
    the called side typed: they belong in no log.
    """

    def __init__(self, flow: Flow, values: Mapping[str, str]) -> None:
        self.visited: list[str] = []
        self.keys = ""
        self.variables: dict[str, str] = {}
        self.machine = False
        self.reason = ""
        self._flow = flow
        self._values = dict(values)
        self._actions: list[FlowAction] = []
        self._at = _At.STEP
        self._name = flow.start
        self._token = _DEADLINE
        self._audio: int | None = None
        self._timer: int | None = None
        self._verdict_due = flow.on_machine is not OnMachine.CONTINUE
        self._overdue = False
        self._without_key = 0
        self._ahead = ""
        self._entry = ""
        self._tries = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._at is _At.END

    def start(self) -> list[FlowAction]:
        """The call was answered. To be called once, before any event."""
        self._actions = [StartTimer(self._flow.max_seconds, _DEADLINE)]
        if self._verdict_due:
            self._actions.append(ListenForMachine())
        self._go(self._flow.start)
        return self._actions

    def receive(self, event: FlowEvent) -> list[FlowAction]:
        """What follows from an event. One that is stale or does not fit is ignored."""
        self._actions = []
        if not self.ended:
            self._go(self._hear(event))
        return self._actions

    # -- events: each answers with the step to go to, or None to stay -------------------------------------

    def _hear(self, event: FlowEvent) -> str | None:
        following: str | None = None
        match event:
            case Key(key):
                following = self._key(key)
            case AudioDone(token, played) if token == self._audio:
                following = self._after_audio(played)
            case TimerDone(token):
                following = self._time(token)
            case MachineVerdict(verdict) if self._verdict_due:
                following = self._judged(verdict)
            case BeepHeard() if self._at is _At.BEEP:
                following = self._flow.after_beep
            case TransferDone(ok) if self._at is _At.TRANSFER:
                following = self._after_transfer(ok)
            case HungUp():
                self._close("the call was hung up")
        return following

    def _key(self, key: str) -> str | None:
        if len(key) != 1 or key not in KEYS:
            return None
        self.keys = (self.keys + key)[:REMEMBERED]
        self._without_key = 0
        self._verdict_due = False  # machines press no keys
        if self._at is _At.VERDICT:
            return self._transfer()
        if self._at is not _At.STEP:
            return None
        step = self._step
        if isinstance(step, CollectStep):
            self._stop_audio()
            return self._collected(step) if self._take(step, key) else self._listen(step.next_timeout)
        if isinstance(step, PlayStep | SayStep) and step.interruptible:
            self._ahead = (self._ahead + key)[:TYPED_AHEAD]
            self._stop_audio()
            return step.next
        return None

    def _after_audio(self, played: bool) -> str | None:
        self._audio = None
        step = self._step
        if not played:
            return self._otherwise("a prompt or text could not be played")
        if isinstance(step, CollectStep):
            return self._listen(step.first_timeout)
        return step.next if isinstance(step, PlayStep | SayStep) else None

    def _after_transfer(self, ok: bool) -> str | None:
        if ok:
            return self._end("transferred")
        return self._end(_TIME_OVER) if self._overdue else self._otherwise("the target was not reached")

    def _time(self, token: int) -> str | None:
        if token == _DEADLINE:
            return self._deadline()
        if token != self._timer:
            return None
        self._timer = None
        if self._at is _At.BEEP:
            return self._flow.after_beep
        if self._at is _At.VERDICT:
            self._verdict_due = False
            return self._transfer()
        step = self._step
        return self._collected(step) if isinstance(step, CollectStep) else None

    def _deadline(self) -> str | None:
        step = self._step
        if self._at is _At.TRANSFER and isinstance(step, TransferStep) and step.mode is TransferMode.BRIDGE:
            self._overdue = True
            return None  # a conversation between two people has no limit of the flow's
        return self._end(_TIME_OVER)

    def _judged(self, verdict: Verdict) -> str | None:
        self._verdict_due = False
        if verdict is Verdict.MACHINE:
            return self._meet_machine()
        return self._transfer() if self._at is _At.VERDICT else None

    def _meet_machine(self) -> str | None:
        self.machine = True
        if self._flow.on_machine is OnMachine.HANGUP:
            return self._end("an answering machine")
        self._stop_audio()
        self._ahead = ""
        self._at = _At.BEEP
        self._actions.append(WaitForBeep())
        return self._listen(BEEP_WITHIN)

    # -- steps -------------------------------------------------------------------------------------------

    def _go(self, following: str | None) -> None:
        while following is not None and not self.ended:
            self._without_key += 1
            self._at = _At.STEP
            self._timer = None
            self._name = following
            if len(self.visited) < REMEMBERED:
                self.visited.append(following)
            if self._without_key > STEPS_WITHOUT_KEY:
                following = self._end(f"{STEPS_WITHOUT_KEY} steps without a key")
            else:
                following = self._enter()

    @property
    def _step(self) -> Step:
        return self._flow.steps[self._name]

    def _enter(self) -> str | None:
        try:
            return self._do()
        except NoValue as error:
            return self._otherwise(str(error))

    def _do(self) -> str | None:
        following: str | None = None
        match self._step:
            case PlayStep() as step:
                self._play(step)
            case SayStep() as step:
                following = self._say(step)
            case CollectStep() as step:
                self._tries = step.tries
                following = self._ask(step)
            case BranchStep() as step:
                following = self._branch(step)
            case SetStep() as step:
                self.variables[step.into] = self._render(step.value)[:MAX_VALUE]
                following = step.next
            case HangupStep(cause):
                self._end("the flow's end", cause)
            case TransferStep():
                following = self._transfer()
        return following

    def _play(self, step: PlayStep) -> None:
        names = tuple(self._render(prompt) for prompt in step.prompts)
        self._actions.append(PlayPrompt(names, step.interruptible, self._new_audio()))

    def _say(self, step: SayStep) -> str | None:
        text = _CONTROL.sub(" ", self._render(step.text))[:LONGEST_TEXT].strip()
        if not text:
            return step.next
        self._actions.append(SayText(text, step.interruptible, self._new_audio()))
        return None

    def _ask(self, step: CollectStep) -> str | None:
        """Begin one try: with the keys typed ahead, else with the prompts, else by waiting."""
        self._entry = ""
        while self._ahead:
            key, self._ahead = self._ahead[0], self._ahead[1:]
            if self._take(step, key):
                return self._collected(step)
        if self._entry:
            return self._listen(step.next_timeout)
        names = tuple(self._render(prompt) for prompt in step.prompts)
        if not names:
            return self._listen(step.first_timeout)
        self._actions.append(PlayPrompt(names, True, self._new_audio()))
        return None

    def _take(self, step: CollectStep, key: str) -> bool:
        """Add a key to the entry; True when the entry is whole."""
        if key in step.terminators:
            return True
        self._entry += key
        return len(self._entry) >= step.max

    def _collected(self, step: CollectStep) -> str | None:
        if self._entry:
            self.variables[step.into] = self._entry
            return step.next
        self._tries -= 1
        self._ahead = ""
        return self._ask(step) if self._tries else self._otherwise("no key was pressed")

    def _branch(self, step: BranchStep) -> str:
        value = self._render(step.on)
        return next((case.next for case in step.cases if value and case.holds(value)), step.otherwise)

    def _transfer(self) -> str | None:
        step = self._step
        assert isinstance(step, TransferStep)
        target = self._render(step.target)
        if not is_target(target):
            return self._otherwise("the target is no telephone number")
        if self._verdict_due:
            self._at = _At.VERDICT
            return self._listen(VERDICT_WITHIN)
        self._at = _At.TRANSFER
        self._actions.append(Transfer(target, step.mode))
        return None

    # -- small parts -------------------------------------------------------------------------------------

    def _render(self, template: Template) -> str:
        return template.render(ChainMap(self.variables, self._values))

    def _otherwise(self, reason: str) -> str | None:
        """The step's other way, or the end of the call with the reason."""
        step = self._step
        if isinstance(step, HangupStep) or step.otherwise is None:
            return self._end(f"steps.{self._name}: {reason}")
        return step.otherwise

    def _listen(self, seconds: float) -> str | None:
        """Stay, with the one timer that counts."""
        self._token += 1
        self._timer = self._token
        self._actions.append(StartTimer(seconds, self._token))
        return None

    def _new_audio(self) -> int:
        self._token += 1
        self._audio = self._token
        return self._token

    def _stop_audio(self) -> None:
        if self._audio is not None:
            self._audio = None
            self._actions.append(StopAudio())

    def _end(self, reason: str, cause: int = NORMAL_CLEARING) -> str | None:
        self._stop_audio()
        self._actions.append(HangUp(cause, reason))
        self._close(reason)
        return None

    def _close(self, reason: str) -> None:
        self._at = _At.END
        self.reason = reason
