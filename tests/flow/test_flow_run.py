"""One call in a flow: what it asks for, in which order, and that it always ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from outdial import flow
from outdial.flow import (
    AudioDone,
    BeepHeard,
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
    StopAudio,
    TimerDone,
    Transfer,
    TransferDone,
    TransferMode,
    Verdict,
    WaitForBeep,
)
from outdial.flow.run import STEPS_WITHOUT_KEY

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "flows"
DEADLINE = 0


def run_of(document: Any, values: Mapping[str, str] | None = None) -> FlowRun:
    return FlowRun(flow.check(document, prompts=None, can_say=True), values or {})


def example(name: str, **values: str) -> FlowRun:
    return run_of(flow.read_document((EXAMPLES / name).read_bytes(), name), values)


def steps(**named: Any) -> dict[str, Any]:
    """A flow of these steps that begins with the first of them and has an `end`."""
    return {"start": next(iter(named)), "steps": {**named, "end": {"hangup": {}}}}


def one(actions: list[FlowAction], kind: type[Any]) -> Any:
    (found,) = [action for action in actions if isinstance(action, kind)]
    return found


def play(run: FlowRun, actions: list[FlowAction]) -> list[FlowAction]:
    """Let what these actions play come to its end."""
    return run.receive(AudioDone(one(actions, PlayPrompt).token))


def time(run: FlowRun, actions: list[FlowAction]) -> list[FlowAction]:
    """Let the timer that these actions start run out."""
    timer = [a for a in actions if isinstance(a, StartTimer) and a.token != DEADLINE][-1]
    return run.receive(TimerDone(timer.token))


# -- the examples ----------------------------------------------------------------------------------------


def test_a_reminder_is_confirmed() -> None:
    run = example("reminder.toml", day="friday")
    started = run.start()
    assert started[:2] == [StartTimer(120, DEADLINE), ListenForMachine()]
    assert one(started, PlayPrompt).names == ("hello", "appointment", "day_friday")
    asked = play(run, started)
    assert one(asked, PlayPrompt).names == ("menu",)
    assert play(run, asked)[0].seconds == 6  # type: ignore[union-attr]
    thanked = run.receive(Key("1"))
    assert one(thanked, PlayPrompt) == PlayPrompt(("thanks",), False, one(thanked, PlayPrompt).token)
    assert play(run, thanked) == [HangUp(16, "the flow's end")]
    assert run.visited == ["greeting", "menu", "decide", "confirmed", "end"]
    assert (run.keys, run.variables, run.machine) == ("1", {"answer": "1"}, False)


def test_a_reminder_to_nobody_asks_twice_and_ends() -> None:
    run = example("reminder.toml")
    asked = play(run, run.start())
    again = time(run, play(run, asked))
    assert one(again, PlayPrompt).names == ("menu",)
    assert one(time(run, play(run, again)), PlayPrompt).names == ("goodbye",)
    assert run.visited == ["greeting", "menu", "bye"]


def test_the_survey_leaves_its_message_after_the_beep() -> None:
    run = example("survey.json")
    started = run.start()
    assert one(started, PlayPrompt).names == ("survey_en",)
    met = run.receive(MachineVerdict(Verdict.MACHINE))
    assert met[:2] == [StopAudio(), WaitForBeep()]
    assert one(met, StartTimer).seconds == 30
    assert run.receive(AudioDone(one(started, PlayPrompt).token)) == []
    assert one(run.receive(BeepHeard()), PlayPrompt).names == ("machine_message",)
    assert run.receive(BeepHeard()) == []
    assert (run.machine, run.visited) == (True, ["welcome", "message"])


def test_the_survey_takes_its_three_answers() -> None:
    run = example("survey.json", language="de")
    started = run.start()
    assert one(started, PlayPrompt).names == ("survey_de",)
    play(run, started)
    run.receive(Key("2"))
    run.receive(Key("5"))
    for key in "0301":
        run.receive(Key(key))
    run.receive(Key("#"))
    assert run.variables == {"service": "2", "price": "5", "number": "0301"}


# -- keys ------------------------------------------------------------------------------------------------

ASK = {"into": "x", "max": 4, "first_timeout": 5, "next_timeout": 2, "tries": 2}


def test_a_key_stops_a_prompt_and_goes_to_the_next_collect() -> None:
    """Type-ahead: who knows the menu need not hear it."""
    document = steps(
        hello={"play": {"prompts": "hello"}, "next": "ask"},
        ask={"collect": {**ASK, "max": 1, "prompts": "menu"}, "next": "end"},
    )
    run = run_of(document)
    run.start()
    assert run.receive(Key("7")) == [StopAudio(), HangUp(16, "the flow's end")]
    assert run.variables == {"x": "7"}


def test_a_prompt_that_is_not_interruptible_takes_no_key() -> None:
    document = steps(
        hello={"play": {"prompts": "hello", "interruptible": False}, "next": "ask"},
        ask={"collect": {**ASK, "max": 1, "prompts": "menu"}, "next": "end"},
    )
    run = run_of(document)
    started = run.start()
    assert run.receive(Key("7")) == []
    assert one(play(run, started), PlayPrompt).names == ("menu",)
    assert (run.keys, run.variables) == ("7", {})


def test_the_first_key_has_its_time_after_the_prompt_and_each_further_one_its_own() -> None:
    run = run_of(steps(ask={"collect": {**ASK, "prompts": "menu"}, "next": "end"}))
    assert one(play(run, run.start()), StartTimer).seconds == 5
    first = run.receive(Key("1"))
    assert first == [StartTimer(2, first[0].token)]  # type: ignore[union-attr]
    second = run.receive(Key("2"))
    assert run.receive(TimerDone(first[0].token)) == []  # type: ignore[union-attr]
    assert time(run, second) == [HangUp(16, "the flow's end")]
    assert run.variables == {"x": "12"}


def test_barge_in_stops_the_collect_prompt_once() -> None:
    run = run_of(steps(ask={"collect": {**ASK, "prompts": "menu"}, "next": "end"}))
    started = run.start()
    assert run.receive(Key("1"))[0] == StopAudio()
    assert StopAudio() not in run.receive(Key("2"))
    assert run.receive(AudioDone(one(started, PlayPrompt).token)) == []


def test_a_terminator_ends_the_entry_and_is_no_part_of_it() -> None:
    run = run_of(steps(ask={"collect": ASK, "next": "end"}))
    run.start()
    run.receive(Key("1"))
    assert isinstance(run.receive(Key("#"))[-1], HangUp)
    assert run.variables == {"x": "1"}


def test_an_empty_entry_is_a_failed_try() -> None:
    run = run_of(steps(ask={"collect": ASK, "next": "end"}))
    run.start()
    assert isinstance(run.receive(Key("#"))[0], StartTimer)
    assert run.receive(Key("#")) == [HangUp(16, "steps.ask: no key was pressed")]
    assert run.variables == {}


def test_without_terminators_every_key_counts() -> None:
    run = run_of(steps(ask={"collect": {**ASK, "max": 2, "terminators": ""}, "next": "end"}))
    run.start()
    run.receive(Key("#"))
    run.receive(Key("*"))
    assert run.variables == {"x": "#*"}


def test_what_is_no_key_is_ignored() -> None:
    run = run_of(steps(ask={"collect": ASK, "next": "end"}))
    run.start()
    assert [run.receive(Key(key)) for key in ("", "12", "x", "é", "\x00")] == [[]] * 5
    assert run.keys == ""


# -- branch, set, say ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "values", "holds"),
    [
        ({"equals": "gold"}, {"x": "gold"}, True),
        ({"equals": "gold"}, {"x": "golden"}, False),
        ({"one_of": ["a", "b"]}, {"x": "b"}, True),
        ({"one_of": ["a", "b"]}, {"x": "c"}, False),
        ({"prefix": "49"}, {"x": "4969"}, True),
        ({"prefix": "49"}, {"x": "149"}, False),
        ({"present": True}, {"x": "y"}, True),
        ({"present": True}, {"x": ""}, False),
        ({"present": True}, {}, False),
        ({"equals": "gold"}, {}, False),
    ],
)
def test_a_branch_takes_the_case_that_holds(case: Any, values: dict[str, str], holds: bool) -> None:
    document = steps(
        a={"branch": {"on": "{x}", "cases": [{**case, "next": "yes"}]}, "otherwise": "end"},
        yes={"hangup": {"cause": 17}},
    )
    run = run_of(document, values)
    assert run.start()[-1].cause == (17 if holds else 16)  # type: ignore[union-attr]


def test_the_first_case_that_holds_wins() -> None:
    cases = [{"prefix": "1", "next": "end"}, {"equals": "12", "next": "late"}]
    document = steps(a={"branch": {"on": "{x}", "cases": cases}, "otherwise": "late"}, late={"hangup": {}})
    run = run_of(document, {"x": "12"})
    run.start()
    assert run.visited == ["a", "end"]


def test_a_value_is_said_with_its_default_or_the_flows_or_the_step_goes_otherwise() -> None:
    document = steps(
        a={"say": {"text": "Hello {name|you}, {city}{{}}"}, "next": "b"},
        b={"say": {"text": "{order.id}"}, "next": "end", "otherwise": "c"},
        c={"say": {"text": "{order.id}"}, "next": "end"},
    ) | {"defaults": {"city": "Bonn"}}
    run = run_of(document, {})
    said = run.start()
    assert one(said, SayText).text == "Hello you, Bonn{}"
    last = run.receive(AudioDone(one(said, SayText).token))
    assert last == [HangUp(16, "steps.c: no value for {order.id}")]
    assert run.visited == ["a", "b", "c"]
    assert run.reason == "steps.c: no value for {order.id}"
    given = run_of(document, {"name": "Ann", "city": "Köln"})
    assert one(given.start(), SayText).text == "Hello Ann, Köln{}"


def test_an_empty_value_is_missing() -> None:
    """As in the contract, where null and "" are absent."""
    run = run_of(steps(a={"say": {"text": "{name|you}"}, "next": "end"}), {"name": ""})
    assert one(run.start(), SayText).text == "you"
    cases = [{"present": True, "next": "yes"}]
    document = steps(a={"branch": {"on": "{x|}", "cases": cases}, "otherwise": "end"}, yes={"hangup": {}})
    empty = run_of(document)
    empty.start()
    assert empty.visited == ["a", "end"]


def test_control_characters_of_a_value_are_not_said() -> None:
    run = run_of(steps(a={"say": {"text": "{x}"}, "next": "end"}), {"x": "one\x1b[0m\ntwo\x00"})
    assert one(run.start(), SayText).text == "one [0m two"


def test_nothing_to_say_is_passed_over() -> None:
    run = run_of(steps(a={"say": {"text": "{x|}"}, "next": "end"}))
    assert isinstance(run.start()[-1], HangUp)


def test_set_gives_a_variable_that_goes_before_call_data_and_cannot_grow() -> None:
    document = steps(
        a={"set": {"into": "x", "value": "{x}{x}"}, "next": "ask"},
        ask={"collect": {**ASK, "max": 1, "into": "k"}, "next": "a", "otherwise": "end"},
    )
    run = run_of(document, {"x": "ab"})
    run.start()
    assert run.variables["x"] == "abab"
    for _ in range(30):
        run.receive(Key("1"))
    assert len(run.variables["x"]) == 1024


@pytest.mark.parametrize(
    ("other", "last"),
    [({}, "steps.a: a prompt or text could not be played"), ({"otherwise": "end"}, "the flow's end")],
)
def test_what_cannot_be_played_goes_otherwise(other: dict[str, str], last: str) -> None:
    run = run_of(steps(a={"play": {"prompts": "hello_{x|de}"}, "next": "end", **other}))
    started = run.start()
    assert run.receive(AudioDone(one(started, PlayPrompt).token, played=False)) == [HangUp(16, last)]


# -- machines, transfers, the end ------------------------------------------------------------------------


def talk(**more: Any) -> dict[str, Any]:
    return steps(a={"play": {"prompts": "hello"}, "next": "end"}) | more


def test_without_on_machine_nobody_listens() -> None:
    run = run_of(talk())
    assert not [a for a in run.start() if isinstance(a, ListenForMachine)]
    assert run.receive(MachineVerdict(Verdict.MACHINE)) == []


def test_a_machine_is_hung_up_on() -> None:
    run = run_of(talk(on_machine="hangup"))
    run.start()
    assert run.receive(MachineVerdict(Verdict.MACHINE)) == [StopAudio(), HangUp(16, "an answering machine")]
    assert run.machine


@pytest.mark.parametrize("verdict", [Verdict.HUMAN, Verdict.UNSURE])
def test_a_human_and_who_may_be_one_hear_the_flow(verdict: Verdict) -> None:
    run = run_of(talk(on_machine="hangup"))
    run.start()
    assert run.receive(MachineVerdict(verdict)) == []
    assert run.receive(MachineVerdict(Verdict.MACHINE)) == []  # only the first verdict counts
    assert not run.machine


def test_who_presses_a_key_is_no_machine() -> None:
    document = steps(a={"play": {"prompts": "hello", "interruptible": False}, "next": "end"}) | {
        "on_machine": "hangup"
    }
    run = run_of(document)
    run.start()
    run.receive(Key("1"))
    assert run.receive(MachineVerdict(Verdict.MACHINE)) == []


def test_a_machine_without_a_beep_is_spoken_to_after_its_time() -> None:
    document = talk(on_machine={"wait_for_beep": "m"})
    document["steps"]["m"] = {"play": {"prompts": "message"}, "next": "end"}
    run = run_of(document)
    run.start()
    met = run.receive(MachineVerdict(Verdict.MACHINE))
    assert run.receive(Key("1")) == []
    assert one(time(run, met), PlayPrompt).names == ("message",)


def test_a_transfer_waits_for_the_verdict() -> None:
    """No answering machine is put through to a person."""
    document = {"start": "t", "steps": {"t": {"transfer": {"target": "{to}"}}}, "on_machine": "hangup"}
    for told, last in (
        (MachineVerdict(Verdict.HUMAN), Transfer("123", TransferMode.REFER)),
        (Key("1"), Transfer("123", TransferMode.REFER)),
        (MachineVerdict(Verdict.MACHINE), HangUp(16, "an answering machine")),
    ):
        run = run_of(document, {"to": "123"})
        started = run.start()
        assert [a for a in started if isinstance(a, Transfer)] == []
        assert run.receive(told) == [last]
    run = run_of(document, {"to": "123"})
    assert time(run, run.start()) == [Transfer("123", TransferMode.REFER)]


@pytest.mark.parametrize("target", ["", "abc", "sip:x@y", "1" * 33, "12\n3", "１２", "1;2"])
def test_a_transfer_goes_to_a_telephone_number_or_nowhere(target: str) -> None:
    run = run_of({"start": "t", "steps": {"t": {"transfer": {"target": "{to}"}}}}, {"to": target})
    actions = run.start()
    assert isinstance(actions[-1], HangUp)
    assert not [a for a in actions if isinstance(a, Transfer)]


def test_a_transfer_ends_the_call_or_goes_otherwise() -> None:
    document = steps(
        t={"transfer": {"target": "+123", "mode": "bridge"}, "otherwise": "sorry"},
        sorry={"play": {"prompts": "sorry"}, "next": "end"},
    )
    run = run_of(document)
    assert run.start()[-1] == Transfer("+123", TransferMode.BRIDGE)
    assert run.receive(TransferDone(True)) == [HangUp(16, "transferred")]
    run = run_of(document)
    run.start()
    assert one(run.receive(TransferDone(False)), PlayPrompt).names == ("sorry",)
    assert run.receive(TransferDone(True)) == []


def test_the_flows_time_ends_it_but_not_a_conversation() -> None:
    run = run_of(talk(max_seconds=5))
    assert run.start()[0] == StartTimer(5, DEADLINE)
    assert run.receive(TimerDone(DEADLINE)) == [StopAudio(), HangUp(16, "the flow's time is over")]
    for mode, ends in (("refer", True), ("bridge", False)):
        run = run_of({"start": "t", "steps": {"t": {"transfer": {"target": "1", "mode": mode}}}})
        run.start()
        assert bool(run.receive(TimerDone(DEADLINE))) is ends


def test_a_bridge_that_fails_when_the_time_is_over_does_not_lead_back_into_the_flow() -> None:
    document = steps(
        t={"transfer": {"target": "1", "mode": "bridge"}, "otherwise": "a"},
        a={"play": {"prompts": "sorry"}, "next": "end"},
    )
    run = run_of(document)
    run.start()
    assert run.receive(TimerDone(DEADLINE)) == []
    assert run.receive(TransferDone(False)) == [HangUp(16, "the flow's time is over")]


def test_after_the_end_nothing_comes() -> None:
    everything: list[FlowEvent] = [
        AudioDone(1),
        Key("1"),
        TimerDone(0),
        TimerDone(1),
        MachineVerdict(Verdict.MACHINE),
        BeepHeard(),
        TransferDone(False),
        HungUp(),
    ]
    for ending in (HungUp(), TimerDone(DEADLINE)):
        run = run_of(talk(on_machine={"wait_for_beep": "a"}))
        run.start()
        run.receive(ending)
        assert run.ended
        assert [run.receive(event) for event in everything] == [[]] * len(everything)
    hung_up = run_of(talk())
    hung_up.start()
    assert hung_up.receive(HungUp()) == []


def test_a_loop_in_silence_is_given_up() -> None:
    """A menu that nobody answers does not go round for ever, whatever its times."""
    document = steps(
        a={"set": {"into": "x", "value": "1"}, "next": "ask"},
        ask={"collect": {**ASK, "tries": 1}, "next": "end", "otherwise": "a"},
    )
    run = run_of(document)
    actions = run.start()
    for _ in range(STEPS_WITHOUT_KEY):
        if run.ended:
            break
        actions = time(run, actions)
    assert actions == [HangUp(16, f"{STEPS_WITHOUT_KEY} steps without a key")]
    assert len(run.visited) == 200


def test_a_campaign_without_a_flow_holds_its_calls_for_a_second() -> None:
    run = FlowRun(flow.WITHOUT_FLOW, {})
    started = run.start()
    assert one([a for a in started if a != StartTimer(600, DEADLINE)], StartTimer).seconds == 1
    assert time(run, started) == [HangUp(16, "the flow's end")]


# -- values ----------------------------------------------------------------------------------------------


def values(call_data: str | None, **more: Any) -> dict[str, str]:
    facts = {"called": "0691234567", "campaign_id": 46, "session_id": "s-1"} | more
    return flow.values_of(call_data, **facts)


def test_call_data_is_flat_and_has_dots() -> None:
    data = {"name": "Ann", "n": 3, "x": 1.5, "ok": True, "no": None, "l": ["p", {"q": "r"}]}
    assert values(json.dumps(data | {"deep": {"er": {"a": "b"}}})) == {
        **{"name": "Ann", "n": "3", "x": "1.5", "ok": "true", "no": "", "l.0": "p", "l.1.q": "r"},
        **{"deep.er.a": "b", "call.last4": "4567", "call.campaign": "46", "call.session": "s-1"},
    }


def test_call_data_that_was_escaped_once_too_often_is_read() -> None:
    """semantics.md §3."""
    assert values(r"{\"name\": \"Ann\"}")["name"] == "Ann"


@pytest.mark.parametrize("data", [None, "", "text", "[1]", "{", '{"a": 1e999, "b": NaN}'])
def test_what_is_no_object_has_no_values(data: str | None) -> None:
    assert {name for name in values(data, session_id=None) if not name.startswith("call.")} == set()


def test_call_data_cannot_pass_for_what_every_call_has() -> None:
    found = values('{"call": {"last4": "0000", "x": "y"}, "call.campaign": "1", "a": 1e999}', session_id=None)
    assert found == {"call.last4": "4567", "call.campaign": "46", "call.session": "", "a": ""}


def test_call_data_as_deep_and_large_as_it_gets_is_read() -> None:
    deep = '{"a":' * 170 + "1" + "}" * 170
    assert values(deep)[".".join("a" * 170)] == "1"
    assert values('{"a": ' + "9" * 400 + "}")["a"] == "9" * 400
    assert len(values('{"a": "' + "x" * 5000 + '"}')["a"]) == 1024
