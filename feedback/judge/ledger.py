"""The judge's money: reserved before a question is asked, settled after, per UTC hour and per UTC day.

What was never settled (the process died) counts in full, where it was reserved: nobody knows what the server did meanwhile.

The first half of a budget is there for every question, the next quarter for every second, the next eighth for every
fourth: so that what is judged is a sample of the hour and of the day, not what came first.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Literal, Protocol

import xxhash
from msgspec import Struct

MAX_HALVINGS = 30


class Spent(Struct, frozen=True):
    """Money spent, and reserved but not settled, in US dollars."""

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


def refusal(spent: Spent, budget: Budget, cost_usd: float, lot: int = 0) -> Refusal | None:
    """Why a question of this cost may not be asked; None when it may. What costs nothing is always allowed.

    `lot` is drawn by a hash of the question; with 0 only a budget that does not suffice refuses it.
    """
    if cost_usd <= 0:
        return None
    if _refuses(spent.day_usd, budget.usd_per_day, cost_usd, lot):
        return "budget_day"
    if _refuses(spent.hour_usd, budget.usd_per_hour, cost_usd, lot):
        return "budget_hour"
    return None


def _refuses(spent_usd: float, most_usd: float, cost_usd: float, lot: int) -> bool:
    if not spent_usd + cost_usd <= most_usd:  # so put, a sum that is no number is refused too
        return True
    left = 1 - spent_usd / most_usd
    every = 1 << int(min(-math.log2(left), MAX_HALVINGS)) if left > 0 else 1  # 0: the cost is too small to be seen
    return lot % every != 0


def lot_of(request_id: str) -> int:
    """The lot of a question. Not the bits that the sample of a backlog looks at: the two are independent."""
    return xxhash.xxh3_64_intdigest(request_id.encode()) >> 32


def hour_of(at_us: int) -> str:
    """The UTC hour of a moment, `2026-11-24T02`; its first ten characters are the day."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H")


class Ledger(Protocol):
    """Where reservations are kept; one for all processes that ask the judge."""

    def reserve(self, cost_usd: float, now_us: int, lot: int = 0) -> Reservation | Refusal:
        """Set money aside, or say why not; for `lot` see `refusal`."""

    def settle(self, reservation_id: str, cost_usd: float) -> None:
        """Replace what was reserved by what it really cost."""

    def spent(self, now_us: int) -> Spent:
        """Spent and reserved in this hour and day."""
