"""How other roles are, asked on their real admin ports: ready, not ready, silent, and not asked too often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.console.port import admin_app
from deploy.roles.others import KEPT_S, SILENT, OtherRoles
from deploy.web.serving import listen, serve
from tests.fakes import CLOCK, ManualClock


@pytest.fixture
async def trainer() -> AsyncIterator[tuple[str, list[str | None]]]:
    """The URL of a role's admin port, and what the role waits for: its last word counts."""
    waiting: list[str | None] = [None]
    listening, stop = listen("127.0.0.1", 0), asyncio.Event()
    serving = asyncio.create_task(serve(admin_app(lambda: waiting[-1]), listening, stop, 1.0, CLOCK))
    yield f"http://127.0.0.1:{listening.getsockname()[1]}", waiting
    stop.set()
    await serving


async def test_each_is_told_as_its_admin_port_tells_it(trainer: tuple[str, list[str | None]]) -> None:
    url, waiting = trainer
    closed = listen("127.0.0.1", 0)
    gone = f"http://127.0.0.1:{closed.getsockname()[1]}"
    closed.close()
    clock = ManualClock()
    others = OtherRoles({"trainer": url, "controller": gone, "worker": f"{url}/nothing"}, clock)
    assert await others() == {"controller": SILENT, "trainer": None, "worker": SILENT}
    waiting.append("the disk is full")
    assert (await others())["trainer"] is None, "an answer counts for a while"
    clock.set_forward(KEPT_S)
    assert await others() == {"controller": SILENT, "trainer": "the disk is full", "worker": SILENT}


async def test_who_speaks_for_itself_asks_nobody() -> None:
    assert await OtherRoles({}, CLOCK)() == {}
