"""The worker's role: facts are written whatever becomes of the control database."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from deploy.cli.common import FULL
from deploy.control.store import open_control
from deploy.parts import open_log
from deploy.roles.presence import who_is_there
from deploy.roles.role import Role
from deploy.roles.worker import _work
from deploy.settings import Settings
from deploy.state import open_state
from feedback.facts.reader import Facts
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge
from tests.dashboards.conftest import wait_for
from tests.deploy.commands import ROOT, environment
from tests.fakes import CLOCK, until
from tests.streams.test_worker import NOW_US, turn


async def test_facts_are_written_while_the_control_database_can_not_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.roles.worker.tune_interpreter", lambda: None)  # this process goes on with other tests
    state = open_state(tmp_path / "s")
    settings = Settings(judge={"base_url": "http://127.0.0.1:9/v1", "model": "judge"})  # type: ignore[arg-type]
    control = open_control(state.control)
    role = Role(state, settings, control, CLOCK)
    with control.database.write() as connection:
        connection.execute(text("DROP TABLE ledger"))
    stop = asyncio.Event()
    working = asyncio.create_task(_work(role, stop))
    await until(lambda: working.done() or role.waiting is None, "a worker that is ready")
    record = Edge(state.secret("edge")).record_of(turn(1), NOW_US)
    assert not isinstance(record, Rejected)
    open_log(state, settings, CLOCK).append([record])
    await until(lambda: working.done() or len(list(Facts(state.facts).turns())) == 1, "the fact")
    assert not working.done()
    stop.set()
    await working


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with less room than is kept in reserve."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=20m", "none", str(disk)], capture_output=True)
    if not made or made.returncode != 0:
        pytest.skip("a file system of its own can't be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.slow
def test_on_a_full_disk_it_says_one_line_and_with_room_it_takes_what_waited(small_disk: Path) -> None:
    state = open_state(small_disk / "state")
    record = Edge(state.secret("edge")).record_of(turn(1), NOW_US)
    assert not isinstance(record, Rejected)
    events = open_log(state, Settings(), CLOCK)
    events.append([record])
    command = [sys.executable, "-P", "-m", "deploy.cli", "worker", "--state", str(state.root), "--admin-port", "0"]
    run = {"cwd": small_disk, "env": environment(PYTHONPATH=str(ROOT))}
    full = subprocess.run(command, capture_output=True, text=True, check=False, **run)  # type: ignore[call-overload]
    assert (full.returncode, full.stdout) == (1, "")
    assert full.stderr == f"trimtab: {FULL}\n"
    assert who_is_there(state.root) == ([], [])  # it ended in order
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    with subprocess.Popen(command, **run) as process:  # type: ignore[call-overload]
        try:
            wait_for(lambda: len(list(Facts(state.facts).turns())) == 1, "the fact")
            assert [presence.pid for presence in who_is_there(state.root)[0]] == [process.pid]
        finally:
            process.kill()
    assert [presence.name for presence in who_is_there(state.root)[1]] == ["worker"]  # it was killed
    events.close()
