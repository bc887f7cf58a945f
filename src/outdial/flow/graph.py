"""What the steps of a flow are to one another: steps to which no way leads, loops without an end."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from outdial.flow.words import BranchStep, CollectStep, HangupStep, Step, TransferStep


def ways(step: Step) -> Iterator[str]:
    """The steps to which a step may lead."""
    if isinstance(step, BranchStep):
        yield from (case.next for case in step.cases)
    elif not isinstance(step, HangupStep | TransferStep):
        yield step.next
    if not isinstance(step, HangupStep) and step.otherwise is not None:
        yield step.otherwise


def unreachable(steps: Mapping[str, Step], entries: Collection[str]) -> list[str]:
    """Steps to which no way leads."""
    seen: set[str] = set()
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += ways(steps[name])
    return [f"steps.{name}: no way leads to this step" for name in steps if name not in seen]


def endless(steps: Mapping[str, Step]) -> list[str]:
    """Loops in which nothing is ever asked of the called side: a `collect` must be on every loop.

    Steps that lead nowhere are taken away, again and again; what stays leads to loops.
    """
    open_ways = {
        name: {to for to in ways(step) if not isinstance(steps[to], CollectStep)}
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
