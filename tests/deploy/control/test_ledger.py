"""The judge's ledger: together, all processes stay within the budget."""

from __future__ import annotations

import math
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import delete

from deploy.control.database import open_database
from deploy.control.ledger import DayCosts, SqlLedger
from deploy.control.schema import ledger as ledger_table
from feedback.judge.ledger import Budget, Reservation, Spent, hour_of
from tests.deploy.commands import FORKED

NOW_US = 1_790_000_000_000_000
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


def book(where: Path | str, hour: float = 1.0, day: float = 3.0) -> SqlLedger:
    """The ledger in a folder, or at a URL."""
    return SqlLedger(open_database(where / "control.db" if isinstance(where, Path) else where), Budget(hour, day))


def reserved(answer: object) -> Reservation:
    assert isinstance(answer, Reservation)
    return answer


def test_a_reservation_counts_until_it_is_settled_for_less(tmp_path: Path) -> None:
    ledger = book(tmp_path)
    name = reserved(ledger.reserve(0.75, NOW_US)).id
    assert ledger.reserve(0.5, NOW_US) == "budget_hour"
    ledger.settle(name, 0.25)
    assert ledger.spent(NOW_US).hour_usd == 0.25
    reserved(ledger.reserve(0.5, NOW_US))


def test_the_next_hour_has_money_again_until_the_day_is_used_up(tmp_path: Path) -> None:
    ledger = book(tmp_path)
    for hour in range(3):
        ledger.settle(reserved(ledger.reserve(1.0, NOW_US + hour * HOUR_US)).id, 1.0)
    assert ledger.reserve(0.1, NOW_US + 3 * HOUR_US) == "budget_day"
    reserved(ledger.reserve(1.0, NOW_US + 24 * HOUR_US))


def test_what_costs_nothing_is_never_refused(tmp_path: Path) -> None:
    reserved(book(tmp_path, hour=0, day=0).reserve(0.0, NOW_US))


def test_a_cost_that_is_no_number_is_refused(tmp_path: Path) -> None:
    ledger = book(tmp_path)
    assert ledger.reserve(math.nan, NOW_US) in ("budget_day", "budget_hour")
    assert ledger.reserve(math.inf, NOW_US) in ("budget_day", "budget_hour")
    assert ledger.spent(NOW_US).day_usd == 0


def test_money_that_was_never_settled_counts_as_spent_in_the_hour_and_day_in_which_it_was_reserved(
    tmp_path: Path,
) -> None:
    ledger, noon_us = book(tmp_path, hour=1.0, day=1.0), NOW_US // DAY_US * DAY_US + 12 * HOUR_US
    reserved(ledger.reserve(1.0, noon_us))
    for later_us in (HOUR_US // 2, HOUR_US, 2 * HOUR_US, 12 * HOUR_US - 1):
        assert ledger.spent(noon_us + later_us).day_usd == 1.0
        assert ledger.reserve(0.5, noon_us + later_us) == "budget_day"
    assert ledger.spent(noon_us) == Spent(1.0, 1.0)
    assert ledger.spent(noon_us + HOUR_US) == Spent(0.0, 1.0)
    assert ledger.spent(noon_us + 12 * HOUR_US) == Spent(0.0, 0.0)


def _ask_often(where: Path | str) -> int:
    """Questions granted to one process; each is settled for what was reserved."""
    ledger = book(where)
    answers = [ledger.reserve(0.125, NOW_US) for _ in range(10)]
    granted = [answer for answer in answers if isinstance(answer, Reservation)]
    for reservation in granted:
        ledger.settle(reservation.id, 0.125)
    return len(granted)


def test_racing_threads_never_exceed_the_budget(tmp_path: Path) -> None:
    book(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        granted = list(pool.map(_ask_often, [tmp_path] * 4))
    assert sum(granted) == 8
    assert book(tmp_path).spent(NOW_US).hour_usd == 1.0


@pytest.mark.slow
def test_on_postgresql_racing_threads_never_exceed_the_budget_either(postgres: str) -> None:
    with open_database(postgres).write() as connection:
        connection.execute(delete(ledger_table))
    with ThreadPoolExecutor(4) as pool:
        granted = list(pool.map(_ask_often, [postgres] * 4))
    assert sum(granted) == 8
    assert book(postgres).spent(NOW_US).hour_usd == 1.0


@pytest.mark.slow
def test_racing_processes_never_exceed_the_budget(tmp_path: Path) -> None:
    book(tmp_path)
    with ProcessPoolExecutor(3, mp_context=FORKED) as pool:
        granted = list(pool.map(_ask_often, [tmp_path] * 3))
    assert sum(granted) == 8
    assert book(tmp_path).spent(NOW_US).hour_usd == 1.0


def test_costs_are_told_by_day_with_what_was_never_settled(tmp_path: Path) -> None:
    ledger = book(tmp_path, hour=9, day=9)
    for at_us in (NOW_US, NOW_US, NOW_US + DAY_US):
        ledger.settle(reserved(ledger.reserve(1.0, at_us)).id, 0.5)
    reserved(ledger.reserve(0.25, NOW_US))
    older, newer = hour_of(NOW_US)[:10], hour_of(NOW_US + DAY_US)[:10]
    assert ledger.by_day() == [DayCosts(newer, 1, 0.5, 0.0), DayCosts(older, 3, 1.25, 0.25)]
    assert ledger.by_day()[1].usd == ledger.spent(NOW_US).day_usd


def test_money_spent_while_the_clock_was_ahead_is_none_of_the_hour_to_which_it_comes_back(tmp_path: Path) -> None:
    ledger = book(tmp_path)
    reserved(ledger.reserve(1.0, NOW_US + 1_000 * DAY_US))
    assert ledger.spent(NOW_US) == Spent(0.0, 0.0)
    reserved(ledger.reserve(1.0, NOW_US))
