"""Options that come together: a command names one parameter, and the options stand in its place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def spread(
    command: Callable[..., None], name: str, options: Mapping[str, Any], made: Callable[..., object]
) -> Callable[..., None]:
    """The command with `options` in the place of its parameter `name`, whose value `made` makes of them."""
    signature = inspect.signature(command, eval_str=True)

    def run(**given: Any) -> None:
        found = {option: given.pop(option) for option in options}
        command(**{name: made(**found)}, **given)

    parameters: list[inspect.Parameter] = []
    for one in signature.parameters.values():
        if one.name == name:
            parameters += [
                one.replace(name=option, annotation=kind, default=None) for option, kind in options.items()
            ]
        else:
            parameters.append(one)
    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run
