"""Fixtures of the crash proofs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from serving import Mutate, Serve, serving

from mutating import copy_of_src
from outdial.store.embedded import remove_cluster


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short path that any user may enter (PostgreSQL's, when we are root)."""
    folder = Path(tempfile.mkdtemp(prefix="outdial-fault-"))
    folder.chmod(0o711)
    yield folder
    remove_cluster(folder / "data")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def serve(place: Path) -> Iterator[Serve]:
    """Starts a server on a new data folder: `serve(api_processes=3)`; nothing of it survives the test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(serving(place, **settings))


@pytest.fixture
def mutate(place: Path) -> Mutate:
    """Makes a copy of src in which each (file, text, instead) was done; the text must be there, once."""

    return lambda *changes: copy_of_src(place / "src", *changes)
