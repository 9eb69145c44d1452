"""The control database for whoever only looks: nothing is made, migrated or changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, inspect, select
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from deploy.control.database import PATIENCE_S, Database, begin_sqlite, create_tables, engine_of, shown, url_of
from deploy.control.schema import SCHEMA_VERSION, schema_version
from deploy.errors import Failed


def read_database(where: str | Path) -> Database:
    """The database at a path (SQLite) or URL, as it is; an empty one where there is none yet.

    One of an earlier version is brought up to date in memory (SQLite; on PostgreSQL it is refused). Raises Failed.
    """
    url = url_of(where)
    if url.get_backend_name() != "sqlite":
        return _on_server(url)
    path = Path(url.database or "")
    if not path.is_file():
        return _in_memory(sqlite3.connect(":memory:", check_same_thread=False))
    try:
        found = _version(path)
        if found == SCHEMA_VERSION:
            return Database(_prepared(create_engine("sqlite://", creator=lambda: _reading(path))))
        copy = sqlite3.connect(":memory:", check_same_thread=False)
        with closing(_reading(path)) as source:
            source.backup(copy)
        return _in_memory(copy)
    except sqlite3.Error as error:
        raise Failed(f"the control database {path} can't be read: {error}") from None


def _on_server(url: URL) -> Database:
    try:
        engine = engine_of(url, PATIENCE_S)
        with engine.connect() as connection:
            made = inspect(connection).has_table(schema_version.name)
            found = connection.execute(select(schema_version.c.version)).scalar() if made else None
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise Failed(f"the control database {shown(url)} can't be read: {error}") from None
    except DBAPIError as error:
        raise Failed(f"the control database {shown(url)} can't be read: {error.orig}") from None
    if found == SCHEMA_VERSION:
        return Database(engine)
    engine.dispose()
    if found is None:
        return _in_memory(sqlite3.connect(":memory:", check_same_thread=False))
    remedy = "upgrade Trimtab" if found > SCHEMA_VERSION else "start the controller, which brings it up to date"
    raise Failed(
        f"the control database has schema version {found}, this version of Trimtab knows {SCHEMA_VERSION}: {remedy}"
    )


def _in_memory(connection: sqlite3.Connection) -> Database:
    """One connection for everybody: what is in it lasts as long as the database is looked at."""
    engine = _prepared(create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool))
    create_tables(engine)
    return Database(engine)


def _prepared(engine: Engine) -> Engine:
    event.listen(engine, "connect", _leave_begin_to_us)
    event.listen(engine, "begin", begin_sqlite)
    return engine


def _leave_begin_to_us(connection: Any, _record: object) -> None:
    connection.isolation_level = None


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5, check_same_thread=False)


def _version(path: Path) -> int | None:
    """None where no tables were made yet: whoever made the file was stopped before."""
    with closing(_reading(path)) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (schema_version.name,)).fetchone() is None:
            return None
        row = connection.execute("SELECT version FROM schema_version").fetchone()
        return int(row[0]) if row else None
