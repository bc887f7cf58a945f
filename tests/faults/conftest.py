"""Fixtures of the crash proofs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from serving import Mutate, Serve, new_place, serving

from mutating import copy_of_src


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture
def serve(place: Path) -> Iterator[Serve]:
    """Starts a server on a new data folder: `serve(api_processes=3)`; nothing of it survives the test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(serving(place, **settings))


@pytest.fixture
def mutate(place: Path) -> Mutate:
    """Makes a copy of src in which each (file, text, instead) was done; the text must be there, once."""

    return lambda *changes: copy_of_src(place / "src", *changes)
