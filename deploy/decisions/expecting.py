"""When a rollout's next decision is to be expected at the traffic that comes, and what can't be decided at it. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.rules.assignment import Enrolment
from feedback.statistics.deciding import Decision
from feedback.statistics.forecast import Forecast
from feedback.statistics.plan import DAY_US, HOUR_US, Plan

RECENT_US = 7 * DAY_US
"""So far back the traffic is looked at."""


@dataclass(frozen=True)
class Outlook:
    """What is to be expected."""

    per_day: float
    """New units a day."""
    decision_in_s: float | None
    """None where no decision is to be expected: a person has to look, or there is too little traffic for one."""
    said: str
    """A sentence; empty where there is nothing to add to the decision."""


def per_day(enrolments: Sequence[Enrolment], now_us: int) -> float:
    """New units a day, of the last seven days; they are given in order of assignment."""
    since_us = max(enrolments[0].at_us, now_us - RECENT_US) if enrolments else now_us
    recent = len(enrolments) - bisect_right(enrolments, since_us - 1, key=lambda one: one.at_us)
    return recent * DAY_US / max(HOUR_US, now_us - since_us)


def outlook(plan: Plan, decision: Decision, stage: int, in_stage_us: int, units_per_day: float) -> Outlook:
    """When the next decision is to be expected, were the arms alike and the traffic to go on like this."""
    if decision.action in ("hold", "pause"):
        return Outlook(units_per_day, None, "")
    at_least_us = max(0, plan.stages[stage].minimum_us - in_stage_us)
    if decision.action != "wait":
        return Outlook(units_per_day, 0.0, "")
    if not decision.missing:
        return Outlook(units_per_day, at_least_us / 1e6, f"the next decision is to be expected in {_span(at_least_us)}")
    if units_per_day == 0:
        return Outlook(0.0, None, "nobody new has come for seven days: without users nothing more will be known")
    missing = [more for more in decision.missing.values() if more is not None]
    if len(missing) < len(decision.missing):
        return Outlook(units_per_day, None, f"it can't be shown at any traffic: {_REMEDY}")
    low, middle, high = (max(at_least_us, _us(missing, name, units_per_day)) for name in ("low", "middle", "high"))
    rest_us = max(0, plan.stages[stage].maximum_us - in_stage_us)
    said = f"at {units_per_day:,.0f} new users a day the next decision is to be expected in {_span(middle)} ({_span(low)} to {_span(high)})"
    if middle <= rest_us:
        return Outlook(units_per_day, middle / 1e6, said)
    return Outlook(
        units_per_day, None, f"{said}, but this share may last {_span(rest_us)} more, then it is on hold: {_REMEDY}"
    )


_REMEDY = (
    "roll it back, and approve it anew with a wider margin or a longer stage (rollout.max_stage_s), or with more users"
)


def _us(missing: Sequence[Forecast], name: str, units_per_day: float) -> int:
    """How long the last guardrail takes."""
    most: int = max(getattr(more, name) for more in missing)
    return round(most / units_per_day * DAY_US)


def _span(us: int) -> str:
    return f"{us / DAY_US:,.0f} days" if us >= 2 * DAY_US else f"{us / HOUR_US:,.0f} h"
