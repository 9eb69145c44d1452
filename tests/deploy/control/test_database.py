"""The control database: made once however many open it at once, and no call takes longer than it may."""

from __future__ import annotations

import sqlite3
import stat
import time
from contextlib import ExitStack, closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from sqlalchemy import make_url, select, text

from deploy.control.database import PATIENCE_S, insert_new, open_database
from deploy.control.reading import read_database
from deploy.control.schema import serving, shadow_asks
from deploy.errors import Failed
from deploy.state import open_state
from tests.deploy.commands import FORKED
from tests.deploy.postgres import fresh

QUICK_S = 0.2
PROCESSES = 6


def _open(root: str, urls: list[str] | None, rounds: int, barrier: Barrier) -> None:
    for number in range(rounds):
        barrier.wait(timeout=120)
        state = open_state(Path(root) / str(number))
        database = open_database(urls[number] if urls else state.control)
        with database.read() as connection:
            assert connection.execute(select(serving.c.halted)).scalars().all() == [False]
        database.close()


def open_at_once(root: Path, rounds: int, urls: list[str] | None = None) -> None:
    barrier = FORKED.Barrier(PROCESSES)
    processes = [FORKED.Process(target=_open, args=(str(root), urls, rounds, barrier)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=240)
    assert [process.exitcode for process in processes] == [0] * PROCESSES


@pytest.mark.slow
def test_processes_that_open_a_fresh_state_at_once_all_get_it(tmp_path: Path) -> None:
    open_at_once(tmp_path, rounds=80)
    assert stat.S_IMODE((tmp_path / "0" / "control.db").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "0").iterdir() if path.name.startswith((".control", ".FORMAT"))] == []


@pytest.mark.slow
def test_processes_that_open_a_fresh_postgresql_database_at_once_all_get_it(postgres: str, tmp_path: Path) -> None:
    with ExitStack() as made:
        urls = [made.enter_context(fresh(postgres, f"fresh_{number}")) for number in range(3)]
        open_at_once(tmp_path, len(urls), urls)


def test_a_write_to_a_locked_database_fails_within_the_time_that_was_given(tmp_path: Path) -> None:
    quick = open_database(tmp_path / "control.db").within(QUICK_S)
    with closing(sqlite3.connect(tmp_path / "control.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        began_s = time.monotonic()
        with pytest.raises(Failed, match="locked; try again in a moment"), quick.write():
            pass
        assert time.monotonic() - began_s < PATIENCE_S
        with quick.read() as connection:  # readers are not kept out
            assert connection.execute(select(serving.c.halted)).scalar() is False


@pytest.mark.slow
def test_a_postgresql_statement_fails_within_the_time_that_was_given(postgres: str) -> None:
    database = open_database(postgres)
    quick = database.within(QUICK_S)
    with database.write() as holder:
        holder.execute(select(serving).with_for_update())
        with pytest.raises(Failed, match="try again in a moment"), quick.write() as waiter:
            waiter.execute(select(serving).with_for_update())
    with quick.write() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "200ms"
    with database.read() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "15s"


@pytest.mark.slow
def test_what_the_url_says_of_postgresql_stands(postgres: str) -> None:
    database = open_database(make_url(postgres).update_query_dict({"connect_timeout": "7"}).render_as_string(False))
    with database.read() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        assert driver.info.get_parameters()["connect_timeout"] == "7"
        assert driver.info.get_parameters()["tcp_user_timeout"] == "5000"


@pytest.mark.parametrize("url", ["mysql://x", "oracle://u@h/d", "postgresql://h:port/d", "nonsense://", "://"])
def test_a_url_of_no_database_that_is_known_is_one_sentence_that_says_what_to_write(url: str) -> None:
    for opened in (open_database, read_database):
        with pytest.raises(Failed, match="postgresql://user@host/name"):
            opened(url)


@pytest.mark.parametrize("where", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_of_rows_that_are_inserted_those_count_that_were_not_there(
    request: pytest.FixtureRequest, tmp_path: Path, where: str
) -> None:
    with ExitStack() as made:
        url: str | Path = tmp_path / "control.db"
        if where == "postgresql":
            url = made.enter_context(fresh(request.getfixturevalue("postgres"), "inserted"))
        database = open_database(url)
        made.callback(database.close)
        rows = [{"candidate": "c", "tenant": "t", "unit": unit, "at_us": 1} for unit in "abc"]
        with database.write() as connection:
            assert insert_new(connection, shadow_asks, []) == 0
            assert insert_new(connection, shadow_asks, rows[:2]) == 2
            assert insert_new(connection, shadow_asks, rows) == 1
            assert insert_new(connection, shadow_asks, rows[:1]) == 0
