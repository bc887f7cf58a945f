"""Fixtures of the interface's proofs: a database and a running server for a module of tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

pytest.register_assert_rewrite("face", "races")

from face import Face, Server, Sql, running_api  # noqa: E402  their asserts are rewritten

TEMPLATE = "outdial_template"
"""The migrated database that the fixture `postgres` makes."""

_numbers = count(1)


@pytest.fixture(scope="session")
def make_server(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Starts servers: `with make_server(processes=3, source=folder) as face`, each on its own database."""

    @contextmanager
    def make(processes: int = 1, source: Path | None = None) -> Iterator[Face]:
        name = f"face{next(_numbers)}"
        dsn = urlunsplit(urlsplit(postgres)._replace(path=f"/{name}"))
        administration = Sql(postgres)
        try:
            administration.do(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
            try:
                with running_api(dsn, tmp_path_factory.mktemp(name), processes, source) as face:
                    yield face
            finally:
                administration.do(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            administration.close()

    return make


@pytest.fixture(scope="session")
def face(make_server: Server) -> Iterator[Face]:
    """One server for all tests that do no harm to it; each makes its own campaigns."""
    with make_server() as running:
        yield running
