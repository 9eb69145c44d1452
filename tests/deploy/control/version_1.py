"""The control database of version 1: the one that 0.1.0 left on SQLite, and the same one on PostgreSQL."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Integer, MetaData, create_engine, func, select
from sqlalchemy.pool import NullPool

from deploy.control.database import url_of

OLD = Path(__file__).parents[2] / "fixtures" / "state-0.1.0.tar.xz"
Content = dict[str, tuple[list[str], list[tuple[Any, ...]]]]


def unpacked(folder: Path) -> Path:
    """The state directory that 0.1.0 left, below `folder`."""
    with tarfile.open(OLD) as archive:
        archive.extractall(folder, filter="data")
    state = folder / "state"
    state.chmod(0o700)
    return state


def bare(where: str | Path) -> Engine:
    """Connections that make and change nothing by themselves."""
    return create_engine(url_of(where), poolclass=NullPool)


def copy(control: Path, url: str) -> None:
    """Make the tables of a SQLite control database, with their indexes and rows, on PostgreSQL as the same version made them."""
    metadata = MetaData()
    with bare(control).connect() as old, bare(url).begin() as new:
        metadata.reflect(old)
        metadata.create_all(new)
        for table in metadata.sorted_tables:
            if rows := [row._asdict() for row in old.execute(select(table))]:
                new.execute(table.insert(), rows)
            if "id" in table.c and isinstance(table.c.id.type, Integer):  # the numbers that are taken are given no more
                sequence = func.pg_get_serial_sequence(table.name, "id")
                new.execute(select(func.setval(sequence, func.max(table.c.id))))


def content(where: str | Path) -> Content:
    """Columns and rows of every table."""
    metadata = MetaData()
    with bare(where).connect() as connection:
        metadata.reflect(connection)
        return {
            table.name: (
                list(table.c.keys()),
                sorted((tuple(row) for row in connection.execute(select(table))), key=repr),
            )
            for table in metadata.sorted_tables
        }


def indexes(where: str | Path) -> set[tuple[str, str | None]]:
    """Table and name of every index that was made by name."""
    metadata = MetaData()
    with bare(where).connect() as connection:
        metadata.reflect(connection)
    return {(table.name, index.name) for table in metadata.sorted_tables for index in table.indexes}
