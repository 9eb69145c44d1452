"""The roles together: in one process and one event loop, with one state directory, one control database and one clock.

What `trimtab up` does with four processes, for a demo or a test whose clock is not the machine's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from socket import socket

from deploy.control.store import Control
from deploy.roles.controller import run_controller
from deploy.roles.gateway import run_gateway
from deploy.roles.role import Role
from deploy.roles.trainer import run_trainer
from deploy.roles.worker import run_worker
from deploy.settings import Settings
from deploy.state import State
from deploy.training.job import Job, run_job
from feedback.clock import Clock

Play = Callable[[Role, asyncio.Event], Awaitable[None]]
"""Plays a role until the event is set."""


async def run_together(
    state: State,
    settings: Settings,
    control: Control,
    clock: Clock,
    stop: asyncio.Event,
    *,
    worker: bool = True,
    job: Job | None = run_job,
    admin: socket | None = None,
    chats: socket | None = None,
    require_keys: bool = False,
    on_ready: Callable[[], object] = lambda: None,
) -> None:
    """Play the roles until `stop`, then end them one after another, the gateway first, so that what it took is on the log.

    `job` is how the trainer trains, None: no trainer. `admin` is where the controller listens and `chats` where the
    gateway does (deploy.web.serving.listen); without, there is none. `on_ready` is called once, when all roles are ready.
    What one raises ends all and is raised; raises Refused where another process plays one of them.
    """
    players: dict[str, Play] = {}
    if worker:
        players["worker"] = run_worker
    if job is not None:
        players["trainer"] = partial(run_trainer, job=job)
    if admin is not None:
        players["controller"] = partial(run_controller, require_keys=require_keys)
    if chats is not None:
        players["gateway"] = partial(run_gateway, listening=chats, require_keys=require_keys)
    waited_for = set(players)

    def ready(name: str) -> None:
        if name in waited_for:
            waited_for.remove(name)
            if not waited_for:
                on_ready()

    with ExitStack() as locks:
        roles = {
            name: Role(
                state,
                settings,
                control,
                clock,
                admin if name == "controller" else None,
                partial(ready, name),
                locks.enter_context(state.play(name)),
            )
            for name in players
        }

        async def others() -> dict[str, str | None]:
            return {name: role.waiting for name, role in roles.items() if name != "gateway"}

        if "gateway" in roles:
            roles["gateway"].others = others
        await play([partial(work, roles[name]) for name, work in players.items()], stop)


async def play(works: Sequence[Callable[[asyncio.Event], Awaitable[None]]], stop: asyncio.Event) -> None:
    """Run all until `stop` is set or one ends; then stop them in order, the last first, each waited for.

    Raises what one raised, once all have ended.
    """
    stops = [asyncio.Event() for _ in works]
    playing = [asyncio.ensure_future(work(its)) for work, its in zip(works, stops, strict=True)]
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([stopping, *playing], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        for its, role in zip(reversed(stops), reversed(playing), strict=True):
            its.set()
            await asyncio.wait([role])
    await asyncio.gather(*playing)
