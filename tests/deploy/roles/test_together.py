"""The roles in one process: stopped in order, and one that fails ends all."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from deploy.control.store import Control
from deploy.errors import Failed, Refused
from deploy.roles.together import play, run_together
from deploy.settings import Settings
from deploy.state import open_state
from tests.fakes import CLOCK


async def test_the_last_is_stopped_first_and_waited_for() -> None:
    ended: list[str] = []

    async def work(name: str, stop: asyncio.Event) -> None:
        await stop.wait()
        await asyncio.sleep(0)
        ended.append(name)

    stop = asyncio.Event()
    stop.set()
    await play([partial(work, name) for name in ("worker", "trainer", "gateway")], stop)
    assert ended == ["gateway", "trainer", "worker"]


async def test_what_one_raises_ends_all_in_order_and_is_raised_then() -> None:
    ended: list[str] = []

    async def works(stop: asyncio.Event) -> None:
        await stop.wait()
        ended.append("in order")

    async def fails(_: asyncio.Event) -> None:
        raise Failed("the disk is full")

    with pytest.raises(Failed, match="the disk is full"):
        await play([works, fails, works], asyncio.Event())
    assert ended == ["in order", "in order"]


async def test_nobody_plays_a_role_that_another_process_plays(tmp_path: Path, control: Control) -> None:
    state = open_state(tmp_path / "state")
    with state.lock("trainer"), pytest.raises(Refused, match=r"the trainer of .* is already running"):
        await run_together(state, Settings(), control, CLOCK, asyncio.Event())
    assert not state.played("worker")
