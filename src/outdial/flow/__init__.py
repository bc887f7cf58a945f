"""Call flows: what an answered call of an IVR campaign hears, asks and does (docs/reference/flows.md).

words      steps, actions and events, as values
template   texts with values in them: `{name}`, `{name|default}`
fields     what a field of the document may hold, for the checker and for the JSON schema
document   the kinds of steps; `check`: a document becomes a `Flow`, or every problem is named
run        `FlowRun`: one call as a state machine, without I/O and without a clock
"""

from __future__ import annotations

from outdial.flow.document import (
    DEFAULT_FLOW,
    WITHOUT_FLOW,
    check,
    check_flow_name,
    document_text,
    json_schema,
    read_document,
)
from outdial.flow.fields import FlowError, check_prompt_name
from outdial.flow.run import FlowRun
from outdial.flow.template import values_of
from outdial.flow.words import (
    AudioDone,
    BeepHeard,
    Flow,
    FlowAction,
    FlowEvent,
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

__all__ = [
    "DEFAULT_FLOW",
    "WITHOUT_FLOW",
    "AudioDone",
    "BeepHeard",
    "Flow",
    "FlowAction",
    "FlowError",
    "FlowEvent",
    "FlowRun",
    "HangUp",
    "HungUp",
    "Key",
    "ListenForMachine",
    "MachineVerdict",
    "PlayPrompt",
    "SayText",
    "StartTimer",
    "StopAudio",
    "TimerDone",
    "Transfer",
    "TransferDone",
    "TransferMode",
    "Verdict",
    "WaitForBeep",
    "check",
    "check_flow_name",
    "check_prompt_name",
    "document_text",
    "json_schema",
    "read_document",
    "values_of",
]
