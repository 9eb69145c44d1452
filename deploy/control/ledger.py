"""The judge's ledger in the control database: one for all processes, so that together they stay within the budget."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, case, func, insert, select, update

from deploy.control.database import Database
from deploy.control.history import lock
from deploy.control.schema import ledger
from feedback.judge.ledger import Budget, Refusal, Reservation, Spent, hour_of, refusal

COST = func.coalesce(ledger.c.settled_usd, ledger.c.reserved_usd)
"""What a question cost; what it may have cost where nobody settled it."""


@dataclass(frozen=True)
class DayCosts:
    """One UTC day. `unsettled_usd` of `usd` were reserved and never settled: under way, or their process died."""

    day: str
    questions: int
    usd: float
    unsettled_usd: float


class SqlLedger:
    """A `feedback.judge.ledger.Ledger`."""

    def __init__(self, database: Database, budget: Budget) -> None:
        self._database = database
        self._budget = budget

    def reserve(self, cost_usd: float, now_us: int, lot: int = 0) -> Reservation | Refusal:
        """Look and reserve in one transaction: two processes can't both take the last cent."""
        with self._database.write() as connection:
            if not cost_usd <= 0:  # a judge that costs nothing does not wait for the sum of the day
                lock(connection)
                refused = refusal(_spent(connection, now_us), self._budget, cost_usd, lot)
                if refused is not None:
                    return refused
            name = f"r-{secrets.token_hex(12)}"
            values = {
                "reservation_id": name,
                "reserved_at_us": now_us,
                "hour": hour_of(now_us),
                "reserved_usd": cost_usd,
            }
            connection.execute(insert(ledger).values(values))
            return Reservation(name)

    def settle(self, reservation_id: str, cost_usd: float) -> None:
        """A reservation is settled once; what it really cost counts in the hour in which it was reserved."""
        with self._database.write() as connection:
            connection.execute(
                update(ledger).where(ledger.c.reservation_id == reservation_id).values(settled_usd=cost_usd)
            )

    def spent(self, now_us: int) -> Spent:
        """Spent and reserved in this hour and day."""
        with self._database.read() as connection:
            return _spent(connection, now_us)

    def by_day(self, days: int = 30) -> list[DayCosts]:
        """The latest days on which something was asked, newest first."""
        day = func.substr(ledger.c.hour, 1, 10).label("day")
        unsettled = func.sum(case((ledger.c.settled_usd.is_(None), ledger.c.reserved_usd), else_=0.0))
        sums = select(day, func.count(), func.sum(COST), unsettled).group_by(day).order_by(day.desc()).limit(days)
        with self._database.read() as connection:
            return [DayCosts(row[0], row[1], float(row[2]), float(row[3])) for row in connection.execute(sums)]


def _spent(connection: Connection, now_us: int) -> Spent:
    hour = hour_of(now_us)
    hours = {"hour": hour, "first": f"{hour[:10]}T00", "last": f"{hour[:10]}T23"}
    row = connection.execute(_SPENT, hours).one()
    return Spent(float(row[0]), float(row[1]))


def _sums() -> Select[Any]:
    in_hour = case((ledger.c.hour == bindparam("hour"), COST), else_=0.0)
    return select(func.coalesce(func.sum(in_hour), 0.0), func.coalesce(func.sum(COST), 0.0)).where(
        ledger.c.hour >= bindparam("first"), ledger.c.hour <= bindparam("last")
    )


_SPENT = _sums()
"""Made once: making it took longer than asking it."""
