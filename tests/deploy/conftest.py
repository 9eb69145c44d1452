"""A control database and candidates on disk."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.control.store import Control, open_control
from deploy.decisions.operations import Operations
from deploy.settings import Settings
from tests.deploy.pairs import compared
from tests.deploy.postgres import server
from tests.fakes import ManualClock

WON = compared(180, 80)


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A control database in which nothing happened yet, to be copied: making one takes longer than most tests."""
    path = tmp_path_factory.mktemp("new") / "control.db"
    open_control(path).close()
    return path


@pytest.fixture
def control(new_database: Path, tmp_path: Path) -> Iterator[Control]:
    opened = open_control(shutil.copy(new_database, tmp_path / "control.db"))
    yield opened
    opened.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "candidates"
    path.mkdir()
    return path


@pytest.fixture
def rules(control: Control, clock: ManualClock, folder: Path) -> Operations:
    """Nobody has compared anything: every good candidate is held."""
    return Operations(control, Settings, folder, clock)


@pytest.fixture
def judged_rules(control: Control, clock: ManualClock, folder: Path) -> Operations:
    """Every candidate has clearly won its comparisons."""
    return Operations(control, Settings, folder, clock, lambda *_: WON)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of an empty PostgreSQL database: TRIMTAB_TEST_POSTGRES, else a server started for these tests."""
    given = os.environ.get("TRIMTAB_TEST_POSTGRES")
    if given:
        yield given
        return
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is missing: pip install psycopg[binary]")
    if not found:
        if os.environ.get("CI"):
            pytest.fail("no PostgreSQL server is installed: CI runs against a real one")
        pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")
    yield from server(found[-1].parent)
