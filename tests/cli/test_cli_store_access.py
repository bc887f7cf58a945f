"""The store for administration: which one, how it is opened, and what is said when it cannot be."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from scripted import Run, error_of

from outdial.store.embedded import EmbeddedOptions, EmbeddedPostgres, remove_cluster, running_dsn


@pytest.fixture
def data(open_folder: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    folder = open_folder / request.node.name.replace("_", "")[:30]
    yield folder
    remove_cluster(folder)
    folder.with_name(f"{folder.name}.key").unlink(missing_ok=True)


def test_a_data_folder_is_made_started_stopped_and_joined_when_it_runs(run: Run, data: Path) -> None:
    """Administration, whether or not the server runs."""
    assert run("vdn", "create", "1", "--data", str(data)).code == 0
    assert running_dsn(data, wait=0) is None
    with EmbeddedPostgres(EmbeddedOptions(data, notice=lambda _: None)) as server:
        made = json.loads(run("key", "create", "--vdn", "1", "--data", str(data), "--json").out)
        assert server.alive()
    listed = json.loads(run("key", "list", "--vdn", "1", "--data", str(data), "--json").out)
    assert [key["ak"] for key in listed] == [made["ak"]]


def test_a_data_folder_that_is_not_there_is_refused_and_not_made(run: Run, tmp_path: Path) -> None:
    ended = run("vdn", "list", "--data", str(tmp_path / "typo"))
    assert ended.code == 2
    assert error_of(ended).startswith(f"data folder {tmp_path / 'typo'}: is not there; ")
    assert list(tmp_path.iterdir()) == []


ADMINISTRATION = [
    ("vdn", "create", "1"),
    ("vdn", "list"),
    ("vdn", "set", "1", "--max-active", "1"),
    ("vdn", "webhook-secret", "1"),
    ("key", "create", "--vdn", "1"),
    ("key", "list", "--vdn", "1"),
    ("key", "revoke", "a"),
    ("campaign", "end", "1", "--vdn", "1"),
    ("campaign", "why", "1", "--vdn", "1"),
    ("results", "undelivered", "--vdn", "1"),
    ("results", "resend", "--vdn", "1"),
    ("records", "export", "--vdn", "1"),
    ("serve",),
]


@pytest.mark.parametrize("arguments", ADMINISTRATION, ids=" ".join)
def test_without_a_store_both_ways_are_named(run: Run, arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)
    assert ended.code == 2
    assert error_of(ended) == (
        "--data DIR (OUTDIAL_DATA) or --database DSN (OUTDIAL_DATABASE): one of them is needed"
    )


def test_a_database_that_is_away_is_exit_code_3_and_shows_no_password(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ended = run("vdn", "list", "--database", f"postgresql://u:hidden@127.0.0.1:{port}/d")
    assert ended.code == 3
    assert error_of(ended).startswith("the store is unavailable: the database cannot be reached: ")
    assert "hidden" not in ended.err


@pytest.mark.parametrize(
    "dsn", ["mysql://u:hidden@h/d", "postgresql://u:p@h:hidden@h/d", "postgresql://u:[hidden@h/d", "hidden"]
)
def test_a_dsn_that_cannot_be_read_is_exit_code_2_and_shows_no_password(run: Run, dsn: str) -> None:
    ended = run("vdn", "list", "--database", dsn)
    assert ended.code == 2
    assert error_of(ended).startswith("database (--database, OUTDIAL_DATABASE): not a DSN")
    assert "hidden" not in ended.err


def test_a_wrong_password_or_database_is_exit_code_2(run: Run, database: str) -> None:
    parts = urlsplit(database)
    user, _, where = parts.netloc.partition("@")
    wrong = parts._replace(netloc=f"{user.partition(':')[0]}:wrong@{where}")
    for other in (urlunsplit(wrong), urlunsplit(parts._replace(path="/nowhere"))):
        ended = run("vdn", "list", "--database", other)
        assert ended.code == 2
        assert "the database refuses us" in error_of(ended)


def test_an_unfit_database_is_refused_with_its_reason(run: Run, make_database: Callable[..., str]) -> None:
    latin = make_database("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    ended = run("vdn", "create", "1", "--database", latin)
    assert ended.code == 2
    assert "must be UTF8" in error_of(ended)


def test_an_empty_database_gets_the_schema(run: Run, make_database: Callable[..., str]) -> None:
    assert run("vdn", "create", "1", "--database", make_database("")).code == 0
