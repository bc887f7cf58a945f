"""Fixtures of the crash proofs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from serving import Mutate, Serve, serving

import outdial
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

    def made(*changes: tuple[str, str, str]) -> Path:
        source = place / "src"
        shutil.copytree(Path(outdial.__file__).parent, source / "outdial")
        for file, text, instead in changes:
            path = source / "outdial" / file
            before = path.read_text(encoding="utf-8")
            assert before.count(text) == 1, f"{file} does not hold this once: {text}"
            path.write_text(before.replace(text, instead), encoding="utf-8")
        return source

    return made
