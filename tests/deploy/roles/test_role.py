"""A role and its admin port: ready when it says so, ended in order together, whatever ended first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from socket import socket

import httpx
import pytest
from prometheus_client import REGISTRY

from deploy.control.store import Control
from deploy.errors import Failed
from deploy.roles.role import Role
from deploy.settings import Settings
from deploy.state import open_state
from deploy.web.serving import listen
from tests.fakes import CLOCK, until

Make = Callable[..., Role]


@pytest.fixture
def make(tmp_path: Path, control: Control) -> Make:
    def made(admin: socket | None = None, on_ready: Callable[[], object] = lambda: None) -> Role:
        return Role(open_state(tmp_path / "state"), Settings(), control, CLOCK, admin, on_ready)

    return made


def test_it_is_told_each_time_that_the_role_becomes_ready_and_only_then(make: Make) -> None:
    told: list[str | None] = []
    role = make(on_ready=lambda: told.append(role.waiting))
    assert role.waiting == "starting"
    role.waiting = "the base model is missing"
    assert told == []
    role.waiting = None
    role.waiting = None
    assert told == [None]
    role.waiting = "the control database is away"
    role.waiting = None
    assert told == [None, None]


async def ready(port: int) -> tuple[int, str | None]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/readyz")
    return answer.status_code, answer.json().get("reason")


async def test_its_admin_port_says_what_it_waits_for_and_closes_with_it(make: Make) -> None:
    admin, stop = listen("127.0.0.1", 0), asyncio.Event()
    port, role = int(admin.getsockname()[1]), make(admin)

    async def work() -> None:
        await stop.wait()

    running = asyncio.create_task(role.run(stop, work()))
    assert await ready(port) == (503, "starting")
    role.waiting = None
    assert await ready(port) == (200, None)
    stop.set()
    await running
    with pytest.raises(httpx.TransportError):
        await ready(port)


async def test_its_admin_port_says_how_each_duty_is(make: Make) -> None:
    admin, stop = listen("127.0.0.1", 0), asyncio.Event()
    port, role = int(admin.getsockname()[1]), make(admin)

    async def work() -> None:
        role.duties["intake"] = lambda: None
        await stop.wait()

    running = asyncio.create_task(role.run(stop, work()))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/readyz")).json()["duties"] == {"intake": "ready"}
        assert (await client.head("/readyz?duty=intake")).status_code == 200
    stop.set()
    await running


async def done() -> None:
    pass


async def failed() -> None:
    raise Failed("the disk is full")


@pytest.mark.parametrize("work", [done, failed])
async def test_work_that_ends_ends_the_admin_port_and_what_it_raised_is_raised_then(
    make: Make, work: Callable[[], Awaitable[None]]
) -> None:
    admin, stop = listen("127.0.0.1", 0), asyncio.Event()
    running = asyncio.ensure_future(make(admin).run(stop, work()))
    await until(running.done, "the end of the role")
    assert stop.is_set()
    assert isinstance(running.exception(), Failed if work is failed else type(None))
    assert admin.fileno() == -1


async def test_without_an_admin_port_there_is_the_work_alone(make: Make) -> None:
    with pytest.raises(Failed, match="the disk is full"):
        await make().run(asyncio.Event(), failed())


def test_each_role_tells_how_much_room_its_disk_has(make: Make) -> None:
    make()
    free, size = (REGISTRY.get_sample_value(f"trimtab_disk_{name}bytes") for name in ("free_", ""))
    assert free is not None
    assert size is not None
    assert 0 < free < size
