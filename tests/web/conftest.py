"""Fixtures of the HTTP edge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from edges import Toy, toy


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toy]:
    """A server with the limits as they are."""
    with toy(tmp_path_factory.mktemp("edge")) as running:
        yield running
