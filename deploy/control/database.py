"""The connection to the control database: short transactions on SQLite (embedded) or PostgreSQL, through SQLAlchemy."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from deploy.control.migrations import migrate
from deploy.control.schema import SCHEMA_VERSION, metadata, periods, schema_version, serving
from deploy.errors import Failed

BUSY_TIMEOUT_S = 15


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

    def close(self) -> None:
        """Give the connections back; a later call opens new ones."""
        self.engine.dispose()


def open_database(where: str | Path) -> Database:
    """The database at a path (SQLite) or SQLAlchemy URL, its tables made where missing.

    Raises Failed when it can't be opened or was made by a newer version.
    """
    url = _url(where)
    try:
        engine = create_engine(url, pool_pre_ping=url.get_backend_name() != "sqlite")
        if url.get_backend_name() == "sqlite":
            _private_file(url)
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        _create_tables(engine)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise Failed(f"the control database {_shown(url)} can't be opened: {error}") from None
    except DBAPIError as error:
        raise Failed(f"the control database {_shown(url)} can't be opened: {error.orig}") from None
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


def _url(where: str | Path) -> URL:
    if isinstance(where, str) and "://" in where:
        try:
            return make_url(where)
        except ArgumentError:
            raise Failed("the control database's URL can't be read: write postgresql://user@host/name") from None
    return URL.create("sqlite", database=str(where))


def _shown(url: URL) -> str:
    return url.database or "" if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def _private_file(url: URL) -> None:
    """The file is made by us, for this user alone, before SQLite makes it for everybody."""
    if url.database and url.database != ":memory:":
        os.close(os.open(url.database, os.O_RDWR | os.O_CREAT, 0o600))


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours, in `_begin_sqlite`
    for pragma in (f"busy_timeout={BUSY_TIMEOUT_S * 1000}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _create_tables(engine: Engine) -> None:
    """Make what is missing; of two processes that do so at once one may have to look again."""
    for last_try in (False, True):
        try:
            with engine.connect().execution_options(write=True) as connection, connection.begin():
                found = _found_version(connection)
                if found is None:
                    metadata.create_all(connection)
                    connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))
                    connection.execute(insert(serving).values(id=1, incumbents=[None], halted=False))
                    connection.execute(insert(periods).values(started_at_us=0, share=0.0, halted=False))
                elif 0 < found < SCHEMA_VERSION:
                    migrate(connection, found)
                    found = SCHEMA_VERSION
        except DBAPIError:
            if last_try:
                raise
        else:
            break
    if found is not None and found != SCHEMA_VERSION:
        remedy = "upgrade Trimtab" if found > SCHEMA_VERSION else "no version ever made it: use another state directory"
        raise Failed(
            f"the control database has schema version {found}, this version of Trimtab knows {SCHEMA_VERSION}: {remedy}"
        )


def _found_version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(schema_version.name):
        return None
    return connection.execute(select(schema_version.c.version)).scalar()
