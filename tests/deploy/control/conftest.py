"""A control database of either kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, insert

from deploy.control import schema
from deploy.control.store import Control, open_control
from tests.deploy.postgres import fresh


@pytest.fixture(scope="session")
def on_postgres(postgres: str) -> Iterator[Control]:
    """A store for all of these tests: to make one takes a second."""
    with fresh(postgres, "shared") as url:
        opened = open_control(url)
        yield opened
        opened.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def any_control(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Control]:
    """An empty store, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        opened = open_control(tmp_path / "any.db")
        yield opened
        opened.close()
        return
    shared: Control = request.getfixturevalue("on_postgres")
    with shared.database.write() as connection:
        for table in schema.metadata.tables.values():
            if table not in (schema.schema_version, schema.serving, schema.periods):
                connection.execute(delete(table))
        connection.execute(schema.serving.update().values(incumbents=[None], rollout_id=None, halted=False))
        connection.execute(delete(schema.periods))
        connection.execute(insert(schema.periods).values(started_at_us=0, share=0.0, halted=False))
    yield shared
