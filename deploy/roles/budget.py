"""How much of the judge's money is left, told to the metrics. The control database may be away, or hang, as long as it likes:
a gauge is not worth a worker."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable
from functools import partial

import structlog

from feedback.clock import Clock
from feedback.judge.ledger import Budget, Spent
from streams import metrics

DEADLINE_S = 1.0
WARN_EVERY_S = 60.0

log = structlog.get_logger()


class BudgetGauge:
    """`spent` asks the database and may block; it does so in a thread, never in two at once."""

    def __init__(self, spent: Callable[[], Spent], budget: Budget, clock: Clock) -> None:
        self._spent, self._budget, self._clock = spent, budget, clock
        self._asking: asyncio.Future[Spent] | None = None
        self._warned_s: float | None = None

    async def tell(self) -> None:
        """Set the gauge; to NaN where there is no answer within a second. Raises nothing."""
        if self._asking is None:
            self._asking = _in_thread(self._spent)
        try:
            async with self._clock.timeout(DEADLINE_S):
                spent = await asyncio.shield(self._asking)
        except Exception as error:
            late = not self._asking.done()
            self._warn(f"no answer within {DEADLINE_S:.0f} s" if late else str(error) or repr(error))
            _set(math.nan, math.nan)
        else:
            _set(self._budget.usd_per_hour - spent.hour_usd, self._budget.usd_per_day - spent.day_usd)
        if self._asking.done():  # else the next call waits for the same answer
            self._asking = None

    def _warn(self, why: str) -> None:
        now_s = self._clock.monotonic_s()
        if self._warned_s is None or now_s - self._warned_s >= WARN_EVERY_S:
            self._warned_s = now_s
            log.warning("judge_budget_unknown", why=why, remedy="see whether the control database is there")


def _set(hour_usd: float, day_usd: float) -> None:
    metrics.JUDGE_BUDGET_REMAINING_USD.labels(period="hour").set(hour_usd)
    metrics.JUDGE_BUDGET_REMAINING_USD.labels(period="day").set(day_usd)


def _in_thread(call: Callable[[], Spent]) -> asyncio.Future[Spent]:
    """Like `asyncio.to_thread`, whose threads a process waits for before it ends: this one may hang."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Spent] = loop.create_future()

    def work() -> None:
        try:
            settle = partial(future.set_result, call())
        except Exception as error:
            settle = partial(future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(lambda: future.done() or settle())

    threading.Thread(target=work, name="judge-budget", daemon=True).start()
    return future
