"""The connection to the control database: short transactions on SQLite (embedded) or PostgreSQL, through SQLAlchemy."""

from __future__ import annotations

import math
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, insert, inspect, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from deploy.control.migrations import migrate
from deploy.control.schema import SCHEMA_VERSION, metadata, periods, schema_version, serving
from deploy.errors import Failed

PATIENCE_S = 15.0
"""How long a statement may take and wait for others' locks, where nothing else is said."""

LIBPQ = ("psycopg", "psycopg2")
SILENCE_S = 5.0
"""A PostgreSQL server that says nothing to the network's questions for so long is gone."""

CREATING = 0x7472696D
"""PostgreSQL's advisory lock of whoever makes the tables."""


class Database:
    """Make one with `open_database`; any thread may use it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view."""
        with _clear_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, all of it or nothing; on SQLite it takes the write lock at once, so that it can't deadlock."""
        with (
            _clear_errors(),
            self.engine.connect().execution_options(write=True) as connection,
            connection.begin(),
        ):
            yield connection

    def within(self, seconds: float) -> Database:
        """The same database over connections of its own, whose statements fail after `seconds`."""
        return Database(engine_of(self.engine.url, seconds))

    def close(self) -> None:
        """Give the connections back; a later call opens new ones."""
        self.engine.dispose()


def open_database(where: str | Path) -> Database:
    """The database at a path (SQLite) or SQLAlchemy URL, its tables made where missing.

    Raises Failed when it can't be opened or was made by a newer version.
    """
    url = url_of(where)
    try:
        engine = engine_of(url, PATIENCE_S)
        if url.get_backend_name() == "sqlite":
            _make_file(url)
        create_tables(engine)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise Failed(f"the control database {shown(url)} can't be opened: {error}") from None
    except DBAPIError as error:
        raise Failed(f"the control database {shown(url)} can't be opened: {error.orig}") from None
    return Database(engine)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """What a person can do something about, as such: SQLite's own error (a full disk), or Failed."""
    try:
        yield
    except OperationalError as error:
        if isinstance(error.orig, sqlite3.OperationalError) and "locked" not in str(error.orig):
            raise error.orig from None
        raise Failed(f"the control database can't be used: {error.orig}; try again in a moment") from None


def url_of(where: str | Path) -> URL:
    """The URL of a path (SQLite) or of a URL. Raises Failed."""
    if isinstance(where, str) and "://" in where:
        try:
            url = make_url(where)
        except (ArgumentError, ValueError):  # a port that is no number
            raise Failed("the control database's URL can't be read: write postgresql://user@host/name") from None
        if (kind := url.get_backend_name()) not in ("sqlite", "postgresql"):
            raise Failed(
                f"the control database can't be of the kind {kind!r}: set TRIMTAB_CONTROL__URL to postgresql://user@host/name, or "
                f"leave it out for a file in the state directory"
            )
        return url
    return URL.create("sqlite", database=str(where))


def shown(url: URL) -> str:
    """The database in a sentence, without its password."""
    return url.database or "" if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def engine_of(url: URL, patience_s: float) -> Engine:
    """Connections whose statements fail after `patience_s`."""
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url)
        event.listen(engine, "connect", partial(_prepare_sqlite, patience_s))
        event.listen(engine, "begin", begin_sqlite)
        return engine
    engine = create_engine(url, pool_pre_ping=True, connect_args=_libpq_options(url, patience_s))
    if url.get_backend_name() == "postgresql":
        event.listen(engine, "begin", partial(_begin_postgresql, patience_s))
    return engine


def _make_file(url: URL) -> None:
    """Make the file, where there is none: for this user alone, and in WAL mode from its first moment.

    SQLite refuses all but one of those who switch a file over at the same time, however long they would wait.
    """
    if not url.database or url.database == ":memory:" or Path(url.database).exists():
        return
    path = Path(url.database)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(sqlite3.connect(fresh)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        os.link(fresh, path)  # of several at once the first one's file stands
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def _prepare_sqlite(patience_s: float, connection: Any, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours, in `begin_sqlite`
    wait = f"busy_timeout={round(patience_s * 1000)}"
    for pragma in (wait, "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def begin_sqlite(connection: Connection) -> None:
    """A transaction that is to write takes the write lock at once."""
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _begin_postgresql(patience_s: float, connection: Connection) -> None:
    # for the transaction and not for the connection, which a pooler may give to somebody else
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {round(patience_s * 1000)}")


def _libpq_options(url: URL, patience_s: float) -> dict[str, Any]:
    """What tells a server that is gone from one that is slow; what the URL says itself stands."""
    if url.get_driver_name() not in LIBPQ:
        return {}
    options = {
        "connect_timeout": max(2, math.ceil(patience_s)),  # of less libpq makes 2
        "tcp_user_timeout": round(SILENCE_S * 1000),
        "keepalives_idle": round(SILENCE_S),
        "keepalives_interval": 2,
        "keepalives_count": 2,
    }
    return {name: value for name, value in options.items() if name not in url.query}


def insert_new(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> int:
    """Insert rows; those that are there already, by any of the table's keys, stay as they are. How many were new."""
    values = list(rows)
    if not values:
        return 0
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).on_conflict_do_nothing().returning(*table.primary_key)
    return len(connection.execute(statement, values).all())  # of several rows PostgreSQL's client counts none


def create_tables(engine: Engine) -> None:
    """Make what is missing; of several processes one does."""
    with engine.connect().execution_options(write=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({CREATING})")
        found = _found_version(connection)
        if found is None:
            metadata.create_all(connection)
            connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))
            connection.execute(insert(serving).values(id=1, incumbents=[None], halted=False))
            connection.execute(insert(periods).values(started_at_us=0, share=0.0, halted=False))
        elif 0 < found < SCHEMA_VERSION:
            migrate(connection, found)
            found = SCHEMA_VERSION
    if found is not None and found != SCHEMA_VERSION:
        remedy = "upgrade Trimtab" if found > SCHEMA_VERSION else "no version ever made it: use another state directory"
        raise Failed(
            f"the control database has schema version {found}, this version of Trimtab knows {SCHEMA_VERSION}: {remedy}"
        )


def _found_version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(schema_version.name):
        return None
    return connection.execute(select(schema_version.c.version)).scalar()
