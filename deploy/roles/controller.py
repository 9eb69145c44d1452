"""The controller: the admin API, the watch over rollout and shadow, and the figures of candidates, trainings and the rollout."""

from __future__ import annotations

import asyncio
import math

import structlog

from deploy.console.api import admin_router
from deploy.control import clearing
from deploy.control.store import Control
from deploy.decisions import figures
from deploy.decisions.operations import Operations
from deploy.decisions.steering import steer
from deploy.decisions.watching import Watching
from deploy.errors import Failed
from deploy.parts import operations
from deploy.roles.judging import judge_comparisons
from deploy.roles.role import REFRESH_S, Role
from feedback.facts.reader import Facts, FactsDamaged
from models.adapters import engine_name

log = structlog.get_logger()


WATCH_S, BUSY = 30.0, 0.1
"""How often the rollout's units are looked at, and the part of the time that looking may take: of many users less often."""

CLEAR_S, KEPT_S = 86_400.0, 90 * 86_400
"""How often is cleared away what nobody needs any more, and how long after its end a rollout's units are kept."""


async def run_controller(role: Role, stop: asyncio.Event, require_keys: bool) -> None:
    """The admin API and the figures of candidates, trainings and the rollout."""
    rules = operations(role.state, role.settings, role.control, role.clock)
    trust = role.settings.access.trust_loopback
    router = admin_router(rules, role.clock, require_keys=require_keys, trust_loopback=trust)
    await role.run(stop, _work(role, stop), (router,))


async def _work(role: Role, stop: asyncio.Event) -> None:
    """The watch, and beside it the judge's part of blind comparisons: what that is asked just now is asked again another time."""
    judging = asyncio.create_task(judge_comparisons(role, stop))
    try:
        await _watch(role, stop)
    finally:
        judging.cancel()
        await asyncio.wait([judging])


async def _watch(role: Role, stop: asyncio.Event) -> None:
    rules = operations(role.state, role.settings, role.control, role.clock)
    watching = Watching(role.control, Facts(role.state.facts), lambda: role.settings, role.clock)
    look_at_s = clear_at_s = -math.inf
    told = set[str]()
    while not stop.is_set():
        problems = set(await asyncio.to_thread(rules.discover))
        for problem in sorted(problems - told):
            log.warning("candidate_unusable", problem=problem)
        told = problems
        await asyncio.to_thread(rules.reseal)
        if (began_s := role.clock.monotonic_s()) >= look_at_s:
            figures.show_comparisons(await asyncio.to_thread(rules.recount))
            await asyncio.to_thread(watch, watching, rules)
            await asyncio.to_thread(attend_shadow, rules)
            ended_s = role.clock.monotonic_s()
            look_at_s = ended_s + max(WATCH_S, (ended_s - began_s) / BUSY)
        if role.clock.monotonic_s() >= clear_at_s:
            clear_at_s = role.clock.monotonic_s() + CLEAR_S
            await asyncio.to_thread(clear, role.control, role.clock.now_us())
        await asyncio.to_thread(figures.refresh, role.control, role.clock.now_us())
        role.waiting = None
        await role.clock.wait(stop, REFRESH_S)


def clear(control: Control, now_us: int) -> None:
    """Forget what is known of users of rollouts that ended, and of candidates that were decided on, long ago."""
    cleared = 0
    while some := clearing.clear(control.database, now_us - KEPT_S * 1_000_000):
        cleared += some
    if cleared:
        log.info("users_cleared", rows=cleared)


def watch(watching: Watching, rules: Operations) -> None:
    """Look at the rollout and do what is the controller's to do; what goes wrong is told, and tried again with the next look."""
    try:
        look = watching.look()
        step = steer(rules, look) if look is not None else None
    except (Failed, FactsDamaged) as error:
        log.error("rollout_not_watched", error=str(error))
        return
    if look is not None and step is not None:
        candidate, reasons = look.document["candidate"], look.document["reasons"]
        log.warning("rollout_steered", step=step, candidate=engine_name(candidate), reason="; ".join(reasons))


def attend_shadow(rules: Operations) -> None:
    """Do what is to be done with the shadow stage; what goes wrong is told, and tried again with the next look."""
    try:
        done = rules.attend_shadow()
    except Failed as error:
        log.error("shadow_not_attended", error=str(error))
        return
    if done is not None:
        log.info("shadow_attended", step=done)
