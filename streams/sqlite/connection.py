"""A SQLite file that several threads and processes share, durable at each commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from feedback.clock import Clock
from streams.log import LogError

BUSY_S = 30.0
"""How long a call waits while others write."""
AGAIN_S, TRIES = 0.01, 3_000
JOURNAL_BYTES = 16_000_000
"""What is left of the journal once its content is in the file: it grows with the largest transaction."""


def open_sqlite(path: Path, schema: Sequence[str], clock: Clock) -> sqlite3.Connection:
    """Open the file, its tables made where missing; processes may do so at the same time. Raises LogError when it is something else."""
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        _to_wal(connection, clock)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA journal_size_limit={JOURNAL_BYTES}")
        with transaction(connection):
            for statement in schema:
                connection.execute(statement)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
            raise LogError(f"{path} is no SQLite database: move it away and start again") from None
        raise
    return connection


def read_sqlite(path: Path, schema: Sequence[str]) -> sqlite3.Connection:
    """The file for whoever only looks; empty tables where there is no file. Raises LogError when it is something else."""
    if not path.is_file():
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        for statement in schema:
            connection.execute(statement)
        return connection
    where = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(where, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise LogError(f"{path} can't be read ({error}): is it a log of this service?") from None
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, after those of others; however it ends, the connection is ready for the next one."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise


def _to_wal(connection: sqlite3.Connection, clock: Clock) -> None:
    """Of several who switch a fresh file over, SQLite refuses all but one at once, whatever time it was given to wait."""
    until_s = clock.monotonic_s() + BUSY_S
    for tried in range(TRIES):
        try:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # of a fresh file: see streams.sqlite.shrinking
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or tried == TRIES - 1 or clock.monotonic_s() > until_s:
                raise
            clock.pause(AGAIN_S)
