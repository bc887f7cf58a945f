"""What the steps of a flow are to one another: ways that lead nowhere, steps without a way, endless loops."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from outdial.flow.fields import near
from outdial.flow.words import BranchStep, CollectStep, HangupStep, Step, TransferStep


def ways(step: Step) -> Iterator[tuple[str, str]]:
    """Where a step may lead: the field that says so, and the step it names."""
    if isinstance(step, BranchStep):
        yield from ((f"branch.cases[{n}].next", case.next) for n, case in enumerate(step.cases))
    elif not isinstance(step, HangupStep | TransferStep):
        yield "next", step.next
    if not isinstance(step, HangupStep) and step.otherwise is not None:
        yield "otherwise", step.otherwise


def unknown(steps: Mapping[str, Step], entries: Mapping[str, str], names: Collection[str]) -> list[str]:
    """Fields that name a step which is not there."""
    named = [*entries.items()]
    named += [(f"steps.{name}.{field}", to) for name, step in steps.items() for field, to in ways(step)]
    return [f"{place}: there is no step {to}{near(to, names)}" for place, to in named if to not in names]


def unreachable(steps: Mapping[str, Step], entries: Mapping[str, str]) -> list[str]:
    """Steps to which no way leads."""
    seen: set[str] = set()
    waiting = list(entries.values())
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += [to for _, to in ways(steps[name])]
    return [f"steps.{name}: no way leads to this step" for name in steps if name not in seen]


def endless(steps: Mapping[str, Step]) -> list[str]:
    """Loops in which nothing is ever asked of the called side: a `collect` must be on every loop.

    Steps that lead nowhere are taken away, again and again; what stays leads to loops.
    """
    open_ways = {
        name: {to for _, to in ways(step) if not isinstance(steps[to], CollectStep)}
        for name, step in steps.items()
        if not isinstance(step, CollectStep)
    }
    while ends := [name for name, to in open_ways.items() if not to]:
        for name in ends:
            del open_ways[name]
        for to in open_ways.values():
            to.difference_update(ends)
    if not open_ways:
        return []
    round_trip = _loop(open_ways)
    return [f"steps.{round_trip[0]}: {' -> '.join(round_trip)} goes round without a collect"]


def _loop(open_ways: Mapping[str, Collection[str]]) -> list[str]:
    """A loop among steps each of which leads to another one of them."""
    path: list[str] = [next(iter(open_ways))]
    while (following := min(open_ways[path[-1]])) not in path:
        path.append(following)
    return [*path[path.index(following) :], following]
