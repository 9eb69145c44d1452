"""Looking at the control database: what is there is shown, nothing is made, migrated or changed."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect, update

from deploy.control import schema
from deploy.control.store import Control, open_control, read_control
from deploy.errors import Failed
from tests.deploy.control.test_store import canary
from tests.deploy.control.version_1 import bare, content, copy, unpacked
from tests.deploy.postgres import fresh


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A control database of version 1."""
    return unpacked(tmp_path) / "control.db"


@pytest.fixture
def server(postgres: str) -> Iterator[str]:
    """URL of an empty database."""
    with fresh(postgres, "looked_at") as url:
        yield url


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_empty(control: Control) -> bool:
    with control.read() as tx:
        return (tx.candidates(), list(tx.history()), tx.serving().incumbents) == ([], [], (None,))


def with_version(control: Control, version: int) -> None:
    with control.database.write() as connection:
        connection.execute(update(schema.schema_version).values(version=version))
    control.close()


def test_where_there_is_none_it_is_empty_and_none_is_made(tmp_path: Path) -> None:
    assert is_empty(read_control(tmp_path / "control.db"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("begun", [b"", b"with a header"])
def test_a_file_in_which_no_tables_were_made_yet_is_an_empty_one(tmp_path: Path, begun: bytes) -> None:
    path = tmp_path / "control.db"
    path.touch()
    if begun:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    assert is_empty(read_control(path))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_one_of_an_earlier_version_is_brought_up_to_date_in_memory_only(old: Path) -> None:
    before = digest(old)
    control = read_control(old)
    with control.read() as tx:
        (period,) = tx.periods()
    assert (period.share, control.routing().share) == (0.05, 0.05)
    control.close()
    assert digest(old) == before


def test_what_is_decided_while_somebody_looks_is_seen_at_the_next_look(control: Control, tmp_path: Path) -> None:
    looking = read_control(tmp_path / "control.db")
    assert looking.routing().candidate is None
    canary(control, share=0.25)
    assert looking.routing().share == 0.25
    looking.close()


def test_who_looks_can_not_write(control: Control, tmp_path: Path) -> None:
    looking = read_control(tmp_path / "control.db")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        canary(looking)
    looking.close()


def test_one_of_a_later_version_is_refused_and_the_sentence_says_to_upgrade(control: Control, tmp_path: Path) -> None:
    with_version(control, 7)
    with pytest.raises(Failed, match=r"schema version 7, this version of Trimtab knows \d+: upgrade Trimtab"):
        read_control(tmp_path / "control.db")


@pytest.mark.parametrize(
    "where", ["nonsense://x", "://", "mysql+nonsense://x", "postgresql://nobody:secret@127.0.0.1:1/x"]
)
def test_one_that_can_not_be_had_is_one_sentence_without_the_password(where: str) -> None:
    with pytest.raises(Failed, match="control database") as raised:
        read_control(where)
    assert "secret" not in str(raised.value)


def test_a_file_that_is_no_database_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(Failed, match=r"x\.db can't be read"):
        read_control(tmp_path / "x.db")


@pytest.mark.slow
def test_on_postgresql_an_empty_database_is_empty_and_stays_so(server: str) -> None:
    assert is_empty(read_control(server))
    assert inspect(bare(server)).get_table_names() == []


@pytest.mark.slow
def test_on_postgresql_looking_shows_what_was_decided_and_changes_nothing(server: str) -> None:
    deciding = open_control(server)
    canary(deciding, share=0.25)
    before = content(server)
    looking = read_control(server)
    assert looking.routing() == deciding.routing()
    with looking.read() as tx, deciding.read() as decided:
        assert tx.periods() == decided.periods()
    assert content(server) == before
    for control in (looking, deciding):
        control.close()


@pytest.mark.slow
def test_on_postgresql_one_of_an_earlier_version_is_left_alone_and_the_sentence_says_who_brings_it_up_to_date(
    server: str, old: Path
) -> None:
    copy(old, server)
    before = content(server)
    with pytest.raises(Failed, match=r"schema version 1, this version of Trimtab knows \d+: start the controller"):
        read_control(server)
    assert content(server) == before


@pytest.mark.slow
def test_on_postgresql_one_of_a_later_version_is_refused_and_the_sentence_says_to_upgrade(server: str) -> None:
    with_version(open_control(server), 7)
    with pytest.raises(Failed, match=r"schema version 7, this version of Trimtab knows \d+: upgrade Trimtab"):
        read_control(server)
