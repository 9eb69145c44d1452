"""What a rollout could find with the traffic that was seen: how soon harm of which size, and how long an equal candidate takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploy.decisions.outcomes import outcomes, tell
from deploy.decisions.tallying import ENOUGH, base_rate
from deploy.rules.assignment import GRACE_US, Enrolment
from deploy.rules.plan import EXPECTED
from feedback.records import Rating, Turn
from feedback.statistics.deciding import guardrail_table
from feedback.statistics.forecast import Period, days_to_find, passages
from feedback.statistics.plan import DAY_US, Metric, Plan
from feedback.statistics.tallies import Strata

SEEN_DAYS = 14
"""So many days back the traffic is looked at."""

LONGEST_DAYS = 120
PASSES = {"day_50%": 0.5, "day_80%": 0.8}
"""Of rollouts of a candidate that is as good, these parts have passed by the day that is named."""

FACTORS = (1.25, 1.5, 2.0, 3.0)
"""By which the rate of something bad may rise: what is forecast for each metric."""


@dataclass(frozen=True)
class Traffic:
    """What was seen: new users a day (conversations where none is known), and the part of them that met each outcome."""

    days: float
    users: int
    rates: dict[str, float]
    assumed: bool = False
    """Too few came for rates of their own: these are what a rollout begins with."""

    @property
    def per_day(self) -> float:
        return self.users / self.days if self.days else 0.0


def traffic(events: Callable[[], Iterable[tuple[int, Turn | Rating]]], age_us: int, now_us: int) -> Traffic:
    """Of what was received, which is read twice: each user is as if enrolled with his first reply, all in one arm."""
    first: dict[tuple[str, str], int] = {}
    for _, event in events():
        if isinstance(event, Turn) and event.origin == "gateway":
            name = event.tenant, event.user_id or event.conversation_id
            first[name] = min(event.occurred_at_us, first.get(name, 2**62))
    units = sorted((at_us, *name) for name, at_us in first.items())
    enrolled = [Enrolment("", tenant, unit, 0, "incumbent", 0.5, 0.5, at_us) for at_us, tenant, unit in units]
    if not enrolled:
        return Traffic(0.0, 0, dict(EXPECTED), assumed=True)
    known = outcomes(tell(enrolled, events()), age_us, GRACE_US, now_us)
    closed = len(known.y["errors"])
    rates = {name: base_rate(name, int(y.sum()), closed) for name, y in known.y.items()}
    days = max(1.0, (now_us - enrolled[0].at_us) / DAY_US)
    return Traffic(days, len(enrolled), rates, assumed=closed < ENOUGH)


def forecast(plan: Plan, seen: Traffic) -> list[dict[str, Any]]:
    """For each guardrail, what rise is found how soon, and how long an equal candidate takes until it may go on; days as numbers,
    None where this traffic would never be enough."""
    window_days = (plan.ages_us[-1] + plan.grace_us) / DAY_US
    return [
        {
            "metric": metric.name,
            "rate": seen.rates[metric.name],
            "found": [_found(plan, seen, metric, factor, window_days) for factor in FACTORS],
            "equal_passes": _equal(plan, seen, metric, window_days),
        }
        for metric in plan.guardrails
    ]


def schedule(plan: Plan) -> Iterable[float]:
    """The share of each day, were every stage to last its minimum, and the evidence's as long as it takes."""
    for stage in plan.stages[: plan.evidence_stage]:
        yield from [stage.share] * max(1, math.ceil(stage.minimum_us / DAY_US))
    yield from [plan.stages[plan.evidence_stage].share] * LONGEST_DAYS


def _found(plan: Plan, seen: Traffic, metric: Metric, factor: float, window_days: float) -> dict[str, Any]:
    rate = seen.rates[metric.name]
    worse = min(rate * factor, 0.99)
    watches = [watch for watch in plan.watches("guardrail") if watch.metric == metric.name and watch.slice is None]
    threshold = watches[-1].log_threshold
    days = {
        f"day_{power:.0%}": None
        if seen.per_day == 0
        else _later(days_to_find(schedule(plan), seen.per_day, worse, rate, threshold, power), window_days)
        for power in (0.8, 0.95)
    }
    return {"becomes": worse, **days}


def _equal(plan: Plan, seen: Traffic, metric: Metric, window_days: float) -> dict[str, int | None]:
    """By when the guardrail has passed: from the evidence's stage on, with what the stages before it gave."""
    if seen.per_day == 0:
        return dict.fromkeys(PASSES)
    rate, shares = seen.rates[metric.name], list(schedule(plan))
    early = len(shares) - LONGEST_DAYS
    longest = early + plan.stages[plan.evidence_stage].maximum_us / DAY_US
    came = [round(seen.per_day * day) for day in range(len(shares) + 1)]
    tables = {
        share: guardrail_table(metric, Strata(np.array([share]), np.array([rate])), plan)[:, 0] for share in {*shares}
    }
    days = [Period(came[day + 1] - came[day], share, tables[share]) for day, share in enumerate(shares)]
    passed = passages(days, rate, rate, plan.log_promotion, since=came[early]) / seen.per_day + window_days
    by = {name: float(np.quantile(passed, power, method="higher")) for name, power in PASSES.items()}
    return {name: math.ceil(day) if day <= longest else None for name, day in by.items()}


def _later(day: int | None, window_days: float) -> int | None:
    return None if day is None else math.ceil(day + window_days)
