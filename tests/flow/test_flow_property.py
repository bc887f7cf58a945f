"""Whatever the flow and whatever comes: no error, an end, and nothing after it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from outdial import flow
from outdial.flow import (
    AudioDone,
    BeepHeard,
    Flow,
    FlowAction,
    FlowEvent,
    FlowRun,
    HangUp,
    HungUp,
    Key,
    ListenForMachine,
    MachineVerdict,
    PlayPrompt,
    SayText,
    StartTimer,
    TimerDone,
    Transfer,
    TransferDone,
    TransferMode,
    Verdict,
    WaitForBeep,
)

PROMPTS = ["p0", "p1"]
TEXTS = st.sampled_from(["p0", "p1", "p{v}", "p{k|0}", "p{missing|1}", "p{gone}"])
NUMBERS = st.sampled_from(["1", "+49", "{v}", "{gone}", "{k|7}"])
SECONDS = st.sampled_from([0.5, 1, 7.5, 60])
VARIABLE = st.sampled_from(["v", "k"])


def maybe(draw: st.DrawFn, targets: list[str]) -> dict[str, str]:
    return {"otherwise": draw(st.sampled_from(targets))} if draw(st.booleans()) else {}


def a_step(draw: st.DrawFn, following: str, later: list[str], every: list[str]) -> dict[str, Any]:
    """A step that leads on to `following`; only what asks may also lead back."""
    kind = draw(st.sampled_from(["play", "say", "collect", "branch", "set", "transfer"]))
    if kind == "play":
        body: dict[str, Any] = {"prompts": draw(st.lists(TEXTS, min_size=1, max_size=3))}
        return {
            "play": body | {"interruptible": draw(st.booleans())},
            "next": following,
            **maybe(draw, later),
        }
    if kind == "say":
        return {"say": {"text": draw(TEXTS)}, "next": following, **maybe(draw, later)}
    if kind == "collect":
        body = {
            "into": draw(VARIABLE),
            "max": draw(st.integers(1, 4)),
            "first_timeout": draw(SECONDS),
            "next_timeout": draw(SECONDS),
            "terminators": draw(st.sampled_from(["", "#", "*0"])),
            "tries": draw(st.integers(1, 3)),
        }
        if draw(st.booleans()):
            body["prompts"] = draw(st.lists(TEXTS, min_size=1, max_size=2))
        return {"collect": body, "next": following, **maybe(draw, every)}
    if kind == "branch":
        cases = [{"equals": "1", "next": following}, {"prefix": "2", "next": draw(st.sampled_from(later))}]
        return {"branch": {"on": draw(NUMBERS), "cases": cases}, "otherwise": draw(st.sampled_from(later))}
    if kind == "set":
        value = draw(st.sampled_from(["", "1", "{v}{v}", "{gone}"]))
        return {"set": {"into": draw(VARIABLE), "value": value}, "next": following, **maybe(draw, later)}
    mode = draw(st.sampled_from(["refer", "bridge"]))
    return {"transfer": {"target": draw(NUMBERS), "mode": mode}, "otherwise": following}


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    names = [f"s{n}" for n in range(draw(st.integers(2, 9)))]
    steps = {name: a_step(draw, names[n + 1], names[n + 1 :], names) for n, name in enumerate(names[:-1])}
    on_machine = draw(st.sampled_from(["continue", "hangup", {"wait_for_beep": names[-1]}]))
    document = {
        "start": names[0],
        "max_seconds": draw(st.sampled_from([1, 30, 600])),
        "on_machine": on_machine,
        "steps": steps | {names[-1]: {"hangup": {"cause": draw(st.integers(1, 127))}}},
    }
    return flow.check(document, prompts=PROMPTS, can_say=True)


EVENTS: st.SearchStrategy[FlowEvent] = st.one_of(
    st.builds(AudioDone, st.integers(0, 30), st.booleans()),
    st.builds(Key, st.sampled_from([*"0123456789*#ABCD", "", "x"])),
    st.builds(TimerDone, st.integers(1, 30)),
    st.builds(MachineVerdict, st.sampled_from(Verdict)),
    st.just(BeepHeard()),
    st.builds(TransferDone, st.booleans()),
)
VALUES = st.dictionaries(st.sampled_from(["v", "gone"]), st.sampled_from(["", "1", "22", "x"]))


def check_actions(run: FlowRun, actions: list[FlowAction]) -> None:
    """HangUp comes once and last, and a turn is bounded."""
    ends = [position for position, action in enumerate(actions) if isinstance(action, HangUp)]
    assert ends in ([], [len(actions) - 1])
    assert run.ended or not ends
    assert len(actions) <= 10
    assert len(run.visited) <= 200
    assert len(run.keys) <= 200
    assert all(len(value) <= 1024 for value in run.variables.values())


@settings(max_examples=200, deadline=None)
@given(flows(), VALUES, st.lists(EVENTS, max_size=40), st.booleans())
def test_any_events_raise_nothing_and_after_the_end_nothing_comes(
    checked: Flow, values: dict[str, str], events: list[FlowEvent], hangs_up: bool
) -> None:
    run = FlowRun(checked, values)
    actions = run.start()
    check_actions(run, actions)
    for event in [*events, HungUp()] if hangs_up else events:
        was = run.ended
        actions = run.receive(event)
        assert not (was and actions)
        check_actions(run, actions)
    assert run.ended or not hangs_up


class ToySwitch:
    """Answers what a switch must answer, in the order of a clock; what may stay away sometimes does."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.now = 0.0
        self.bridged = False
        self.order = count()
        self.waiting: list[tuple[float, int, FlowEvent]] = []

    def after(self, seconds: float, event: FlowEvent) -> None:
        heapq.heappush(self.waiting, (self.now + seconds, next(self.order), event))

    def next(self) -> FlowEvent:
        self.now, _, event = heapq.heappop(self.waiting)
        return event

    def do(self, action: FlowAction) -> None:
        yes = self.draw(st.booleans())
        match action:
            case StartTimer(seconds, token):
                self.after(seconds, TimerDone(token))
            case PlayPrompt(token=token) | SayText(token=token):
                self.after(self.draw(st.sampled_from([0, 0.5, 20])), AudioDone(token, yes))
            case ListenForMachine() if yes:
                self.after(2, MachineVerdict(self.draw(st.sampled_from(Verdict))))
            case WaitForBeep() if yes:
                self.after(3, BeepHeard())
            case Transfer(mode=mode):
                self.bridged = self.bridged or mode is TransferMode.BRIDGE
                if yes or self.bridged:
                    self.after(BRIDGED, TransferDone(self.draw(st.booleans())))


BRIDGED = 100.0
"""Seconds that a bridged call or its attempt lasts."""


@settings(max_examples=200, deadline=None)
@given(flows(), VALUES, st.data())
def test_every_call_ends_within_the_time_of_its_flow(
    checked: Flow, values: dict[str, str], data: st.DataObject
) -> None:
    """Only a bridged call outlasts it, and then the flow does not go on."""
    run, switch = FlowRun(checked, values), ToySwitch(data.draw)
    for key in data.draw(st.lists(st.sampled_from("012#"), max_size=5)):
        switch.after(data.draw(st.sampled_from([0.1, 1, 5, 30])), Key(key))
    actions = run.start()
    while not run.ended:
        for action in actions:
            switch.do(action)
        actions = run.receive(switch.next())
        assert switch.now <= checked.max_seconds + (BRIDGED if switch.bridged else 0)
