"""The controller: the admin API, and the figures of candidates, trainings and the rollout."""

from __future__ import annotations

import asyncio

import structlog

from deploy.console.api import admin_router
from deploy.decisions import figures
from deploy.parts import operations
from deploy.roles.role import REFRESH_S, Role

log = structlog.get_logger()


async def run_controller(role: Role, stop: asyncio.Event, require_keys: bool) -> None:
    """The admin API and the figures of candidates, trainings and the rollout."""
    rules = operations(role.state, role.settings, role.control, role.clock)
    trust = role.settings.access.trust_loopback
    router = admin_router(rules, role.clock, require_keys=require_keys, trust_loopback=trust)
    await role.run(stop, _watch(role, stop), (router,))


async def _watch(role: Role, stop: asyncio.Event) -> None:
    rules = operations(role.state, role.settings, role.control, role.clock)
    while not stop.is_set():
        for problem in await asyncio.to_thread(rules.discover):
            log.warning("candidate_unusable", problem=problem)
        await asyncio.to_thread(rules.reseal)
        await asyncio.to_thread(figures.refresh, role.control, role.clock.now_us())
        role.waiting = None
        await role.clock.wait(stop, REFRESH_S)
