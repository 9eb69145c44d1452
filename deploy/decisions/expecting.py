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
    range_s: tuple[float, float] | None
    """Of ten such rollouts one is decided before, and one after; None where no decision is to be expected, or no units are missing."""
    said: str
    """A sentence; empty where there is nothing to add to the decision."""


def per_day(enrolments: Sequence[Enrolment], now_us: int) -> float:
    """New units a day, of the last seven days; they are given in order of assignment."""
    since_us = max(enrolments[0].at_us, now_us - RECENT_US) if enrolments else now_us
    recent = len(enrolments) - bisect_right(enrolments, since_us - 1, key=lambda one: one.at_us)
    return recent * DAY_US / max(HOUR_US, now_us - since_us)


def outlook(
    plan: Plan,
    decision: Decision,
    stage: int,
    in_stage_us: int,
    units_per_day: float,
    closing_us: Sequence[int],
) -> Outlook:
    """When the next decision is to be expected, were the arms alike and the traffic to go on like this.

    `closing_us` says in how long each unit closes whose window is still open, rising.
    """
    if decision.action in ("hold", "pause"):
        return Outlook(units_per_day, None, None, "")
    at_least_us = max(0, plan.stages[stage].minimum_us - in_stage_us)
    if decision.action != "wait":
        return Outlook(units_per_day, 0.0, None, "")
    if not decision.missing:
        said = f"the next decision is to be expected in {_span(at_least_us)}"
        return Outlook(units_per_day, at_least_us / 1e6, None, said)
    if units_per_day == 0:
        return Outlook(0.0, None, None, "nobody new has come for seven days: without users nothing more will be known")
    missing = [more for more in decision.missing.values() if more is not None]
    if len(missing) < len(decision.missing):
        return Outlook(units_per_day, None, None, f"it can't be shown at any traffic: {_REMEDY}")
    window_us = plan.ages_us[-1] + plan.grace_us
    low, middle, high = (
        max(at_least_us, _closed_us(_most(missing, name), closing_us, units_per_day, window_us))
        for name in ("low", "middle", "high")
    )
    rest_us = max(0, plan.stages[stage].maximum_us - in_stage_us)
    said = f"at {units_per_day:,.0f} new users a day the next decision is to be expected in {_span(middle)} ({_span(low)} to {_span(high)})"
    if middle <= rest_us:
        return Outlook(units_per_day, middle / 1e6, (low / 1e6, high / 1e6), said)
    said = f"{said}, but this share may last {_span(rest_us)} more, then it is on hold: {_REMEDY}"
    return Outlook(units_per_day, None, None, said)


_REMEDY = (
    "roll it back, and approve it anew with a wider margin or a longer stage (rollout.max_stage_s), or with more users"
)


def _most(missing: Sequence[Forecast], name: str) -> int:
    """Units for the guardrail that takes longest."""
    most: int = max(getattr(more, name) for more in missing)
    return most


def _closed_us(more: int, closing_us: Sequence[int], units_per_day: float, window_us: int) -> int:
    """In how long so many more units have closed: first those whose window is open, then who is still to come."""
    if more <= len(closing_us):
        return closing_us[more - 1]
    return window_us + round((more - len(closing_us)) / units_per_day * DAY_US)


def _span(us: int) -> str:
    return f"{us / DAY_US:,.0f} days" if us >= 2 * DAY_US else f"{us / HOUR_US:,.0f} h"
