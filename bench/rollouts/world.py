"""A public that is served by two arms: users of different temper, weeks that go up and down, a step, shares that rise, late news.

One unit is a user, with one bad outcome or none for each metric. What is drawn are events, told late, twice and out of order, which go
through the service's own closing; the rates are exactly those that a scenario names, averaged over users and the week.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from feedback.statistics.closing import close
from feedback.statistics.plan import DAY_US, HOUR_US, Plan
from feedback.statistics.replaying import Units
from feedback.statistics.tallies import Floats, Ints, Strata

TEMPER = 8.0
"""How alike users are: their own rates are Beta-distributed with this concentration."""

NEWS = 3.0
"""How early bad events come within the longest age: by a part t of it 1 - (1 - t) ** NEWS of them."""


@dataclass(frozen=True)
class World:
    """What is true, and nobody in the service knows."""

    rates: Mapping[str, tuple[float, float]]
    """By metric: of bad outcomes, the incumbent's and the candidate's."""
    per_day: int = 2_000
    days: int = 12
    shares: tuple[tuple[float, int], ...] = ((0.05, 4), (0.25, 4), (0.5, 100))
    """Each with its days."""
    rise_at: float = 0.0
    """The hour of the day at which the share rises."""
    weekly: float = 0.2
    """How far the rates go up and down within a week, as a part of themselves."""
    step: float = 0.0
    """What they rise by for good on a day drawn at random, as a part of themselves."""
    outage: tuple[float, float] | None = None
    """From when to when, in days, everything is bad for nine in ten, whatever the arm."""
    failing_over: float = 0.0
    """The part of the candidate's units that it could not be loaded for: the incumbent answers, and an error is counted."""
    slow_candidate: bool = False
    """News of the candidate's units come at the very end of grace."""
    sliced: Mapping[str, float] = field(default_factory=dict)
    """By slice: the part of the units that belongs to it."""

    @property
    def opened_us(self) -> Ints:
        """When each unit was assigned, [N]."""
        return np.arange(self.days * self.per_day, dtype=np.int64) * (DAY_US // self.per_day)

    @property
    def stratum(self) -> Ints:
        """The share's period in which each was, [N]."""
        ends = np.cumsum([days for _, days in self.shares])[:-1] * DAY_US + int(self.rise_at * HOUR_US)
        return np.searchsorted(ends, self.opened_us, side="right")

    def run(self, plan: Plan, rollouts: int, random: np.random.Generator) -> Units:
        """So many rollouts, as they looked to the service when each unit closed."""
        opened, stratum = self.opened_us, self.stratum
        share = np.array([share for share, _ in self.shares[: int(stratum[-1]) + 1]])
        shape = (rollouts, len(opened))
        arm = (random.random(shape) < share[stratum]).astype(np.int64)
        members = {name: random.random(shape) < part for name, part in self.sliced.items()}
        y: dict[str, Ints] = {}
        strata = {}
        swing = self._swing(rollouts, random)
        for metric in plan.metrics:
            truly = self._truly(metric.name, arm, swing, random)
            told = [self._told(plan, opened, bad, arms, random) for bad, arms in zip(truly, arm, strict=True)]
            for watch in plan.every_watch:
                if watch.metric == metric.name:
                    known = np.stack([outcomes[watch.age_us] for outcomes in told])
                    y[watch.name] = known if watch.slice is None else np.where(members[watch.slice], known, -1)
                    expected = self._expected(metric.name, plan, watch.age_us, arm, y[watch.name], random)
                    strata[watch.name] = Strata(share, expected)
        return Units(strata, np.broadcast_to(stratum, shape), arm, y, opened)

    def _swing(self, rollouts: int, random: np.random.Generator) -> Floats:
        """What the rates are multiplied by when each unit comes, [R, N]: 1 on average over a week, until the step."""
        day = self.opened_us / DAY_US
        phase = random.random((rollouts, 1)) * 7
        swing = 1 + self.weekly * np.sin(2 * np.pi * (day - phase) / 7)
        return np.asarray(swing * (1 + self.step * (day >= random.random((rollouts, 1)) * self.days)), float)

    def _truly(self, metric: str, arm: Ints, swing: Floats, random: np.random.Generator) -> Ints:
        """The bad outcomes, [R, N], of users each of whom has a rate of his own around the arm's."""
        incumbent, candidate = self.rates[metric]
        failed = (arm == 1) & (random.random(arm.shape) < self.failing_over)
        rate = np.clip(np.where((arm == 1) & ~failed, candidate, incumbent) * swing, 1e-6, 1 - 1e-6)
        own = random.beta(rate * TEMPER, (1 - rate) * TEMPER)
        if self.outage is not None:
            day = self.opened_us / DAY_US
            own = np.where((day >= self.outage[0]) & (day < self.outage[1]), 0.9, own)
        bad = random.random(arm.shape) < own
        return (bad | failed if metric == "errors" else bad).astype(np.int64)

    def _told(self, plan: Plan, opened: Ints, bad: Ints, arm: Ints, random: np.random.Generator) -> dict[int, Ints]:
        """Outcomes by age, from events that come within grace, some twice, in any order."""
        unit = np.flatnonzero(bad)
        at = opened[unit] + (random.beta(1, NEWS, len(unit)) * (plan.ages_us[-1] - 1)).astype(np.int64)
        delay = (random.beta(1, 4, len(unit)) * plan.grace_us).astype(np.int64)
        delay = np.where(arm[unit] * self.slow_candidate, plan.grace_us, delay)
        mixed = random.permutation(
            np.append(np.arange(len(unit)), random.integers(0, max(1, len(unit)), len(unit) // 10))
        )
        events = (column[mixed] for column in (unit, at, at + delay)) if len(unit) else (unit, at, at)
        told_unit, told_at, arrived = events
        end = int(opened[-1]) + plan.ages_us[-1] + plan.grace_us
        return {
            age: close(opened, told_unit, told_at, arrived, age, plan.grace_us, end).y[: len(opened)]
            for age in plan.ages_us
        }

    def _expected(
        self, metric: str, plan: Plan, age_us: int, arm: Ints, y: Ints, random: np.random.Generator
    ) -> Floats:
        """The base rate of each stratum as it was known when it was opened, [R, S]: the first from history, off by up to a fifth."""
        stratum, closes = self.stratum, self.opened_us + age_us + plan.grace_us
        by_then = 1 - (1 - age_us / plan.ages_us[-1]) ** NEWS  # of all bad events of a unit
        expected = [self.rates[metric][0] * by_then * random.uniform(0.8, 1.2, len(arm))]
        for number in range(1, int(stratum[-1]) + 1):
            begins = self.opened_us[np.searchsorted(stratum, number)]
            known = (closes <= begins) & (arm == 0) & (y >= 0)
            seen = known.sum(1)
            expected.append(np.where(seen < 100, expected[-1], ((known & (y == 1)).sum(1) + 0.5) / (seen + 1)))
        return np.clip(np.stack(expected, -1), 1e-4, 1 - 1e-4)
