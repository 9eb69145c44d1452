"""Opening one file from several processes at once, and transactions that leave nothing behind."""

from __future__ import annotations

import multiprocessing
import sqlite3
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from feedback.clock import SystemClock
from streams.log import LogError
from streams.sqlite.connection import open_sqlite, transaction
from streams.sqlite.log import SqliteLog
from tests.fakes import CLOCK

SCHEMA = ("CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY)",)
ROUNDS, PROCESSES = 25, 4
STARTED_S = 60.0


def _open_fresh_logs(folder: Path, ready: Barrier) -> None:
    """One of the processes; what goes wrong is its exit code."""
    try:
        for number in range(ROUNDS):
            ready.wait(STARTED_S)
            log = SqliteLog(folder / f"{number}.db", CLOCK)
            log.create_topic("a")
            (folder / f"{number}.{multiprocessing.current_process().pid}.id").write_text(log.identity("a"))
            log.close()
    except BaseException:
        ready.abort()
        raise


@pytest.mark.slow
def test_processes_that_open_a_fresh_log_at_once_open_the_same(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(PROCESSES)
    processes = [context.Process(target=_open_fresh_logs, args=(tmp_path, ready)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    for number in range(ROUNDS):
        identities = [path.read_text() for path in tmp_path.glob(f"{number}.*.id")]
        assert len(identities) == PROCESSES
        assert len(set(identities)) == 1


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    connection = open_sqlite(tmp_path / "things.db", SCHEMA, CLOCK)
    with pytest.raises(sqlite3.IntegrityError), transaction(connection):
        connection.executemany("INSERT INTO things VALUES (?)", [("a",), ("a",)])
    with transaction(connection):
        connection.execute("INSERT INTO things VALUES ('b')")
    assert connection.execute("SELECT name FROM things").fetchall() == [("b",)]


def test_a_file_that_somebody_switches_over_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "things.db"
    held = sqlite3.connect(path, isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")

    class Releasing(SystemClock):
        """Whoever held the file lets go while we wait; no time passes."""

        def monotonic_s(self) -> float:
            return 0.0

        def pause(self, seconds: float) -> None:
            held.execute("COMMIT")

    monkeypatch.setattr("streams.sqlite.connection.BUSY_S", 0.01)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        open_sqlite(path, SCHEMA, CLOCK)
    assert open_sqlite(path, SCHEMA, Releasing()).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_can_not_be_opened_is_let_go_of(tmp_path: Path) -> None:
    path = tmp_path / "things.db"
    path.write_text("somebody's notes " * 100)
    with pytest.raises(LogError, match="move it away"):
        open_sqlite(path, SCHEMA, CLOCK)
