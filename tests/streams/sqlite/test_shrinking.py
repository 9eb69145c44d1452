"""A file gives back what was deleted in it, and holds nobody up meanwhile."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from streams.sqlite import shrinking
from streams.sqlite.connection import open_sqlite
from streams.sqlite.shrinking import shrink
from tests.fakes import CLOCK, ManualClock

SCHEMA = ("CREATE TABLE IF NOT EXISTS records (place INTEGER PRIMARY KEY, record BLOB)",)
BIG = 8_000_000


class Between(ManualClock):
    """Does something in each pause."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__()
        self._then = then

    def pause(self, seconds: float) -> None:
        self._then()


def filled(path: Path, records: int = 400) -> sqlite3.Connection:
    connection = open_sqlite(path, SCHEMA, CLOCK)
    connection.executemany("INSERT INTO records (record) VALUES (?)", [(b"x" * 20_000,)] * records)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert path.stat().st_size > records * 20_000
    return connection


def before_there_was_this(path: Path) -> None:
    """A file as it was made then."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def test_a_file_is_shorter_once_most_in_it_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(filled(path)) as connection:
        connection.execute("DELETE FROM records WHERE place > 10")
        shrink(connection, threading.Lock(), CLOCK)
        assert path.stat().st_size < 2_000_000
        assert connection.execute("SELECT count(*), sum(length(record)) FROM records").fetchone() == (10, 200_000)


def test_a_file_made_before_is_converted_once(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    before_there_was_this(path)
    with closing(filled(path)) as connection:
        connection.execute("DELETE FROM records WHERE place > 10")
        shrink(connection, threading.Lock(), CLOCK)
        assert path.stat().st_size < 2_000_000
    with closing(open_sqlite(path, SCHEMA, CLOCK)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (shrinking.INCREMENTAL,)
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (10,)


def test_a_large_file_made_before_is_not_written_anew_while_others_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shrinking, "CONVERTED_BYTES", 100_000)
    path = tmp_path / "log.db"
    before_there_was_this(path)
    with closing(filled(path)) as connection:
        connection.execute("DELETE FROM records WHERE place > 10")
        shrink(connection, threading.Lock(), CLOCK)
        assert path.stat().st_size > BIG
        connection.execute("DELETE FROM records")
        shrink(connection, threading.Lock(), CLOCK)
        assert path.stat().st_size < 2_000_000


def test_others_write_between_two_slices(tmp_path: Path) -> None:
    path, lock = tmp_path / "log.db", threading.Lock()
    with closing(filled(path)) as connection, closing(sqlite3.connect(path, timeout=0)) as other:
        connection.execute("DELETE FROM records")
        written = []

        def write() -> None:
            assert not lock.locked()
            with other:
                written.append(other.execute("INSERT INTO records (record) VALUES ('small')").lastrowid)

        shrink(connection, lock, Between(write))
        assert len(written) > 3
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (len(written),)
        assert path.stat().st_size < 2_000_000


def test_a_file_that_somebody_writes_to_is_left_for_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(filled(path)) as connection, closing(sqlite3.connect(path, isolation_level=None)) as other:
        connection.execute("DELETE FROM records")
        connection.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")
        with capture_logs() as told:
            shrink(connection, threading.Lock(), CLOCK)
        assert [line["event"] for line in told] == ["file_not_shrunk"]
        other.execute("ROLLBACK")
        shrink(connection, threading.Lock(), CLOCK)
        assert path.stat().st_size < 2_000_000


def test_a_little_room_stays_for_what_comes_next(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(filled(path)) as connection:
        connection.execute("DELETE FROM records WHERE place <= 20")
        size = path.stat().st_size
        shrink(connection, threading.Lock(), CLOCK)
        assert path.stat().st_size == size
