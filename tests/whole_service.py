"""The whole service in one process on a clock that is told: every role, real ports, a real engine of random weights.

Only the hours of training are a stand-in's: it leaves a real adapter of random weights, as a training would.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from deploy.control.store import Control, open_control
from deploy.roles.together import run_together
from deploy.settings import Settings
from deploy.state import State, open_state
from deploy.training.job import Job
from deploy.web.serving import listen
from feedback.facts.reader import Facts
from feedback.facts.tables import TableName
from streams.app import GROUPS
from streams.log import lag
from streams.sqlite.log import SqliteLog
from tests.fakes import CLOCK, ManualClock, until


@dataclass
class WholeService:
    """A running service, with a client of each port."""

    state: State
    control: Control
    clock: ManualClock
    chats: httpx.AsyncClient
    admin: httpx.AsyncClient
    log: SqliteLog

    def facts(self, table: TableName) -> list[str]:
        """The turns that a table speaks of."""
        return [str(each) for each in Facts(self.state.facts).columns(table, ["turn_id"])["turn_id"].to_pylist()]

    async def all_is_facts(self, events: int) -> None:
        """Once so many turns and ratings are facts, and nothing else is on the log."""
        await until(lambda: sum(end for (_, _), end in self.log.ends().items()) == events, "all events on the log")
        while len(self.facts("turns")) + len(self.facts("ratings")) < events:
            await self.clock.live_through(1, 1)
        await until(lambda: not any(lag(self.log, GROUPS).values()), "all runs acknowledged")


@asynccontextmanager
async def whole_service(
    folder: Path, clock: ManualClock, settings: Settings, job: Callable[[Control], Job | None]
) -> AsyncIterator[WholeService]:
    """The service in a state directory below `folder`, ready; `job` is how its trainer trains."""
    state = open_state(folder / "state")
    control = open_control(state.control)
    ready, stop = asyncio.Event(), asyncio.Event()
    ports = [listen("127.0.0.1", 0) for _ in range(2)]
    chats, admin = [
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port.getsockname()[1]}", timeout=60) for port in ports
    ]
    playing = asyncio.create_task(
        run_together(
            state, settings, control, clock, stop, job=job(control), chats=ports[0], admin=ports[1], on_ready=ready.set
        )
    )

    async def all_ready() -> bool:
        await clock.live_through(1, 1)
        return ready.is_set() or playing.done()

    await until(all_ready, "all roles ready")
    running = WholeService(state, control, clock, chats, admin, SqliteLog(state.log, CLOCK))
    try:
        yield running
    finally:
        await chats.aclose()
        await admin.aclose()
        running.log.close()
        stop.set()
        await playing
        control.close()
