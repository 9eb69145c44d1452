"""The worker: events into facts, unrated turns to the judge."""

from __future__ import annotations

import asyncio

from deploy.parts import ledger, make_ask, open_log, open_worker
from deploy.roles.budget import BudgetGauge
from deploy.roles.role import REFRESH_S, Role
from feedback.intake.edge import Edge
from feedback.judge.ledger import Budget
from streams.hops.waiting_turns import WaitingTurns
from streams.worker import tune_interpreter


async def run_worker(role: Role, stop: asyncio.Event) -> None:
    """Events into facts, unrated turns to the judge."""
    await role.run(stop, _work(role, stop))


async def _work(role: Role, stop: asyncio.Event) -> None:
    state, settings = role.state, role.settings
    ask = make_ask(settings.judge, role.control, role.clock)
    tune_interpreter()
    router = WaitingTurns(settings.judge.grace_s, role.clock) if ask is not None else None
    budget = _gauge(role) if ask is not None else None
    async with open_worker(
        open_log(state, settings, role.clock),
        state,
        settings,
        Edge(state.secret("edge")),
        ask,
        router,
        role.clock,
    ) as worker:
        role.waiting = None
        while not stop.is_set():
            if worker.failed.done():
                worker.failed.result()
            if budget is not None:
                await budget.tell()
            await role.clock.wait(stop, REFRESH_S)


def _gauge(role: Role) -> BudgetGauge:
    judge, clock = role.settings.judge, role.clock
    kept = ledger(judge, role.control)
    return BudgetGauge(lambda: kept.spent(clock.now_us()), Budget(judge.usd_per_hour, judge.usd_per_day), clock)
