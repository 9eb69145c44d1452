"""The control store: one truth for several processes, on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text, update

from deploy.control import history, schema
from deploy.control.history import Entry, first_broken
from deploy.control.store import Control, open_control
from deploy.errors import Failed
from deploy.rules.assignment import Assignment
from deploy.rules.rollout import Approve, Command, Promote, Rollback, transition
from tests.deploy.commands import FORKED
from tests.deploy.postgres import fresh

FIRST = Assignment("r", "t", "c", "u", "candidate", 0.05, 1)


def do(control: Control, *commands: Command) -> None:
    for command in commands:
        with control.change() as tx:
            before = tx.serving()
            after, _ = transition(before, command, 1)
            tx.save_serving(before, after, 1)


def canary(control: Control, share: float = 0.5) -> None:
    do(control, Approve("c" * 64, "r"), Promote((share, 1.0), 100))


def test_a_fresh_store_serves_the_bare_base(control: Control) -> None:
    routing = control.routing()
    assert (routing.incumbent, routing.candidate, routing.share, routing.halted) == (None, None, 0.0, False)


def test_what_one_process_decides_another_reads(control: Control, tmp_path: Path) -> None:
    canary(control)
    routing = open_control(tmp_path / "control.db").routing()
    assert (routing.candidate, routing.rollout_id, routing.share) == ("c" * 64, "r", 0.5)


def test_a_transaction_that_fails_leaves_nothing(control: Control) -> None:
    def fail_halfway() -> None:
        with control.change() as tx:
            tx.append(Entry(1, "a", "b", None, None, None, ""))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert control.history() == []


def test_a_newer_schema_is_refused_by_both_versions_names(control: Control, tmp_path: Path) -> None:
    with control.database.write() as connection:
        connection.execute(update(schema.schema_version).values(version=7))
    with pytest.raises(Failed, match=rf"schema version 7, this version of Trimtab knows {schema.SCHEMA_VERSION}"):
        open_control(tmp_path / "control.db")


def test_the_file_is_private_and_set_up_to_last(control: Control, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "control.db").stat().st_mode) == 0o600
    with control.read() as tx:
        assert tx.connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert tx.connection.execute(text("PRAGMA synchronous")).scalar() == 2


@pytest.mark.parametrize("where", ["nonsense://x", "://", "postgresql://nobody@127.0.0.1:1/x"])
def test_a_database_that_cannot_be_had_is_one_sentence(where: str) -> None:
    with pytest.raises(Failed, match="control database"):
        open_control(where)


def test_a_file_that_is_no_database_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(Failed, match=r"x\.db can't be opened"):
        open_control(tmp_path / "x.db")


def test_a_full_disk_is_sqlites_own_error(control: Control) -> None:
    with control.read() as tx:
        pages = tx.connection.execute(text("PRAGMA page_count")).scalar()

    def fill() -> None:
        with control.database.write() as connection:
            connection.execute(text(f"PRAGMA max_page_count={pages}"))
            history.append(connection, Entry(1, "a", "b", None, None, None, "x" * 100_000))

    with pytest.raises(sqlite3.OperationalError, match="full"):
        fill()
    assert control.history() == []


def _append(where: str, count: int) -> None:
    control = open_control(where if "://" in where else Path(where))
    for n in range(count):
        with control.change() as tx:
            tx.append(Entry(n, str(os.getpid()), "pause", None, None, None, ""))


def _append_at_once(where: str) -> None:
    processes = [FORKED.Process(target=_append, args=(where, 20)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0, 0, 0]


@pytest.mark.slow
def test_processes_that_write_at_once_keep_one_whole_history(tmp_path: Path) -> None:
    """They make the tables at once, too."""
    _append_at_once(str(tmp_path / "fresh.db"))
    control = open_control(tmp_path / "fresh.db")
    with control.read() as tx:
        assert first_broken(tx.connection) is None
    assert Counter(entry.actor for entry in control.history()).most_common()[-1][1] == 20
    assert len(control.history()) == 60


@pytest.mark.slow
def test_postgresql_keeps_the_same_promises(postgres: str) -> None:
    with fresh(postgres, "promises") as url:
        control = open_control(url)
        _append_at_once(url)
        _keeps_its_promises(control)
        control.close()


def _keeps_its_promises(control: Control) -> None:
    canary(control, share=0.99)
    assert control.expose("t", "c", "u", 1) == control.expose("t", "c", "u", 2)
    assert control.assign(replace(FIRST, conversation_id="x")) == control.assign(
        replace(FIRST, conversation_id="x", arm="incumbent")
    )
    token, key = control.keys.create("app", "t", ["chat"], "ada", 1)
    assert control.key(token, 2) == key
    training = control.trainings.start("first", 1)
    control.trainings.end(training, "failed", 2, error="no")
    assert control.trainings.failures_in_a_row() == 1
    assert control.trainings.request("why", 3) == control.trainings.request("again", 4)
    do(control, Promote((1.0,), 100), Rollback(incumbent=True))
    assert control.routing().incumbent is None
    with control.read() as tx:
        assert first_broken(tx.connection) is None
    assert len(control.history()) == 61
