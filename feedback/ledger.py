"""The judge's money: reserved before a question is asked, settled after, per UTC hour and per UTC day."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, Protocol

from msgspec import Struct

RESERVATION_EXPIRES_US = 3_600_000_000
"""A question that was never settled (its process died) counts in full for an hour, then not at all."""


class Spent(Struct, frozen=True):
    """Money spent and reserved, in US dollars."""

    hour_usd: float
    day_usd: float


class Budget(Struct, frozen=True):
    """Most money per UTC hour and per UTC day."""

    usd_per_hour: float
    usd_per_day: float


class Reservation(Struct, frozen=True):
    """Money set aside for one question."""

    id: str


Refusal = Literal["budget_hour", "budget_day"]


def refusal(spent: Spent, budget: Budget, cost_usd: float) -> Refusal | None:
    """Why a question of this cost may not be asked; None when it may. What costs nothing is always allowed."""
    if cost_usd <= 0:
        return None
    if not spent.day_usd + cost_usd <= budget.usd_per_day:  # so put, a sum that is no number is refused too
        return "budget_day"
    if not spent.hour_usd + cost_usd <= budget.usd_per_hour:
        return "budget_hour"
    return None


def hour_of(at_us: int) -> str:
    """The UTC hour of a moment, `2026-11-24T02`; its first ten characters are the day."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H")


class Ledger(Protocol):
    """Where reservations are kept; one for all processes that ask the judge."""

    def reserve(self, cost_usd: float, now_us: int) -> Reservation | Refusal:
        """Set money aside, or say why not."""

    def settle(self, reservation_id: str, cost_usd: float) -> None:
        """Replace what was reserved by what it really cost."""

    def spent(self, now_us: int) -> Spent:
        """Spent and reserved in this hour and day."""
