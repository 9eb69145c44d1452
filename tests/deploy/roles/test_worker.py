"""The worker's role: facts are written whatever becomes of the control database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text

from deploy.control.store import open_control
from deploy.parts import open_log
from deploy.roles.role import Role
from deploy.roles.worker import _work
from deploy.settings import Settings
from deploy.state import open_state
from feedback.facts.reader import Facts
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge
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
