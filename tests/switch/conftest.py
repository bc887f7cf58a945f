"""A carrier, and engines connected to it."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from far_end import Far, Listener


@pytest.fixture
def far() -> Iterator[Far]:
    with tempfile.TemporaryDirectory(prefix="od") as folder:
        carrier = Far(Path(folder))
        yield carrier
        carrier.stop_if_started()


@pytest.fixture
def second(far: Far) -> Iterator[Far]:
    """Another carrier in the same folder, so with the same log and socket."""
    carrier = Far(far.log.parent)
    yield carrier
    carrier.stop_if_started()


@pytest.fixture
async def engines(far: Far) -> AsyncIterator[Callable[[], Listener]]:
    """Makes listeners and closes them."""
    made: list[Listener] = []

    def make() -> Listener:
        made.append(Listener(far.address))
        return made[-1]

    yield make
    for listener in made:
        await listener.switch.close()


@pytest.fixture
async def engine(far: Far, engines: Callable[[], Listener]) -> Listener:
    """A running carrier and an engine connected to it."""
    far.start()
    listener = engines()
    await listener.connect()
    return listener
