"""The judge's ledger: together, all processes stay within the budget."""

from __future__ import annotations

import threading
from pathlib import Path

from deploy.database import open_database
from deploy.ledger import SqlLedger
from feedback.ledger import RESERVATION_EXPIRES_US, Budget, Reservation

NOW_US = 1_790_000_000_000_000
HOUR_US = 3_600_000_000


def book(root: Path, hour: float = 1.0, day: float = 3.0) -> SqlLedger:
    return SqlLedger(open_database(root / "control.db"), Budget(hour, day))


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


def test_a_reservation_whose_process_died_expires(tmp_path: Path) -> None:
    ledger = book(tmp_path, hour=1.0, day=1.0)
    reserved(ledger.reserve(1.0, NOW_US))
    assert ledger.reserve(1.0, NOW_US + RESERVATION_EXPIRES_US // 2) != "reserved"
    assert ledger.spent(NOW_US + RESERVATION_EXPIRES_US // 2).day_usd == 1.0
    assert ledger.spent(NOW_US + RESERVATION_EXPIRES_US).day_usd == 0.0


def test_racing_askers_never_exceed_the_budget(tmp_path: Path) -> None:
    granted: list[Reservation] = []

    def ask() -> None:
        ledger = book(tmp_path)
        for _ in range(10):
            answer = ledger.reserve(0.1, NOW_US)
            if isinstance(answer, Reservation):
                granted.append(answer)

    book(tmp_path)
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) in (9, 10)  # 10 × 0.1 may be a hair over 1.0 in floating point
    assert book(tmp_path).spent(NOW_US).hour_usd <= 1.0 + 1e-9


def test_costs_are_told_by_day(tmp_path: Path) -> None:
    ledger = book(tmp_path, hour=9, day=9)
    for at_us in (NOW_US, NOW_US, NOW_US + 24 * HOUR_US):
        ledger.settle(reserved(ledger.reserve(1.0, at_us)).id, 0.5)
    assert [(questions, usd) for _, questions, usd in ledger.by_day()] == [(1, 0.5), (2, 1.0)]
