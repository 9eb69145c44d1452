"""The gauge of the judge's money never holds a worker up, whatever the control database does."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from deploy.errors import Failed
from deploy.roles.budget import DEADLINE_S, WARN_EVERY_S, BudgetGauge
from feedback.clock import Clock
from feedback.judge.ledger import Budget, Spent
from tests.fakes import CLOCK, ManualClock, until
from tests.fakes import DEADLINE_S as LONG_S


def left() -> tuple[float, ...]:
    """What the gauge says of hour and day."""
    values = (
        REGISTRY.get_sample_value("trimtab_judge_budget_remaining_usd", {"period": name}) for name in ("hour", "day")
    )
    return tuple(math.nan if value is None else value for value in values)


def gauge(spent: Callable[[], Spent], clock: Clock = CLOCK) -> BudgetGauge:
    return BudgetGauge(spent, Budget(2.0, 10.0), clock)


async def test_what_is_left_of_hour_and_day_is_told() -> None:
    await gauge(lambda: Spent(0.5, 4.0)).tell()
    assert left() == (1.5, 6.0)


@pytest.mark.parametrize("error", [Failed("the control database can't be used"), OSError("away"), TimeoutError()])
async def test_a_database_that_is_away_makes_it_unknown_until_it_is_back(error: Exception) -> None:
    answers: list[Exception | Spent] = [error, Spent(1.0, 1.0)]

    def spent() -> Spent:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    told = gauge(spent)
    await told.tell()
    assert all(map(math.isnan, left()))
    await told.tell()
    assert left() == (1.0, 9.0)


async def test_a_database_that_hangs_is_asked_once_and_its_answer_counts_when_it_comes() -> None:
    clock, go, asked = ManualClock(), threading.Event(), list[int]()

    def spent() -> Spent:
        asked.append(1)
        assert go.wait(LONG_S)
        return Spent(0.25, 0.5)

    told = gauge(spent, clock)
    for _ in range(3):
        telling = asyncio.create_task(told.tell())
        await until(lambda: bool(clock._timeouts))
        await clock.advance(DEADLINE_S)
        await telling
        assert all(map(math.isnan, left()))
    assert len(asked) == 1
    go.set()
    await told.tell()
    assert left() == (1.75, 9.5)


async def test_it_warns_now_and_then() -> None:
    def spent() -> Spent:
        raise Failed("the control database can't be used")

    clock = ManualClock()
    told = gauge(spent, clock)
    with capture_logs() as lines:
        await told.tell()
        await told.tell()
        assert [line["why"] for line in lines] == ["the control database can't be used"]
        clock.set_forward(WARN_EVERY_S)
        await told.tell()
    assert len(lines) == 2
