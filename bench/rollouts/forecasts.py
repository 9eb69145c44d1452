"""Do forecasts come true? Rollouts of equal arms: what a look half-way says against what came, and the day that was named beforehand.

Beside it what the best forecast would have said, of one who knows the true rates. To pass a threshold is a walk's hitting time: for the
best of bets, log E rises by half its variance, so the units that it takes from `a` below the threshold are spread like the inverse
Gaussian of shape a / 2 times its mean. No number has 80% of that within its half and its double before a is 6; a promotion begins at
log 25 = 3.2, where 66% is the most, and half-way less is left.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bench.rollouts.scenarios import WIDE
from bench.rollouts.world import World
from deploy.decisions.forecasting import Traffic, forecast
from feedback.statistics.deciding import Tallies, decide, guardrail_table
from feedback.statistics.forecast import FUTURES, Forecast, ever_more, passages
from feedback.statistics.plan import DAY_US, Plan
from feedback.statistics.replaying import Units, replay
from feedback.statistics.tallies import Strata, add, empty


@dataclass(frozen=True)
class Forecasting:
    """A public of equal arms, and the plan that it is watched by."""

    name: str
    world: World
    plan: Plan


@dataclass(frozen=True)
class Came:
    """What was forecast of one rollout, and what came."""

    half: int
    """Units that had closed when it was forecast, half-way through the evidence's stage."""
    more: Forecast
    needed: int
    """Units that it took from there."""
    said_day: int
    """The day by which half were to pass, said beforehand."""
    day: int
    best: int
    """What would have been said instead of `more.middle` by who knows the true rates."""

    @property
    def within_range(self) -> bool:
        """Whether what came lies in the range that was said, which four of five do."""
        return self.more.low <= self.needed <= self.more.high

    @property
    def within_twice(self) -> bool:
        """Whether all units together are at most twice those that were forecast, and at least half."""
        return 0.5 <= (self.half + self.needed) / (self.half + self.more.middle) <= 2

    @property
    def more_within_twice(self) -> bool:
        """The same of those that were still to come."""
        return 0.5 <= self.needed / self.more.middle <= 2

    @property
    def best_within_twice(self) -> bool:
        """Whether the best forecast would have had it so."""
        return 0.5 <= self.needed / self.best <= 2

    @property
    def day_within_twice(self) -> bool:
        """The same of the day that was said beforehand."""
        return 0.5 <= self.day / self.said_day <= 2


_PLAN = replace(WIDE, slices=(), ages_us=(3 * DAY_US,))

FORECASTS = tuple(
    Forecasting(f"{down:.0%} down, {errors:.0%} errors, {users} a day", World({"down": (down, down), "errors": (errors, errors)}, users, days), _PLAN)
    for down, errors, users, days in ((0.10, 0.03, 300, 120), (0.10, 0.10, 300, 60), (0.30, 0.05, 600, 60))
)  # fmt: skip


def forecasts(one: Forecasting, rollouts: int, chunk: int) -> list[Came]:
    """Of those rollouts that passed, and needed some units of the evidence's stage to."""
    random = np.random.default_rng([zlib.crc32(one.name.encode()), chunk])
    (units,) = one.world.rollouts(one.plan, rollouts, random)
    rates = {metric: incumbent for metric, (incumbent, _) in one.world.rates.items()}
    said = forecast(_patient(one.plan), Traffic(1.0, one.world.per_day, rates))
    said_day = max(row["equal_passes"]["day_50%"] for row in said)
    begins = int(np.searchsorted(one.world.stratum, one.plan.evidence_stage))
    found = []
    for run, (action, at) in enumerate(zip(*(column.tolist() for column in replay(one.plan, units)), strict=True)):
        half = (begins + at) // 2
        if action == "promote" and at - begins > 100:
            tallies = _tallies(one.plan, units, run, half)
            missing = decide(tallies, one.plan).missing
            if missing and None not in missing.values():
                day = (int(units.opened_us[at]) + one.plan.ages_us[-1] + one.plan.grace_us) // DAY_US + 1
                best = _best(one.plan, tallies, rates, set(missing))
                found.append(Came(half, _last(list(missing.values())), at - half, said_day, day, best))
    return found


def _best(plan: Plan, tallies: Tallies, rates: Mapping[str, float], missing: set[str]) -> int:
    """The number that has as many as possible of the futures within its half and its double, at the true rates."""
    futures = np.zeros(FUTURES)
    random = np.random.default_rng(0)
    for metric, watch in plan.proofs:
        if metric.name in missing:
            strata, rate = tallies.strata[watch.name], rates[metric.name]
            wealth = (tallies.counts[watch.name] * guardrail_table(metric, strata, plan)).sum(axis=(-3, -2, -1))
            now = Strata(strata.p[-1:], strata.m[-1:])
            periods = ever_more(float(now.p[0]), guardrail_table(metric, now, plan)[:, 0])
            units = passages(periods, rate, rate, plan.log_promotion, wealth)
            futures = np.maximum(futures, random.permutation(units))
    said = np.unique(futures[np.isfinite(futures)])[:, None] * np.array([0.5, 1, 2])
    ordered = np.sort(futures)
    within = np.searchsorted(ordered, 2 * said, side="right") - np.searchsorted(ordered, said / 2)
    return max(1, round(float(said.ravel()[within.argmax()])))


def _patient(plan: Plan) -> Plan:
    """A plan that waits for the evidence as long as it takes."""
    return replace(plan, stages=tuple(replace(stage, maximum_us=1_000 * DAY_US) for stage in plan.stages))


def _last(missing: list[Forecast]) -> Forecast:
    return Forecast(*(max(getattr(more, name) for more in missing) for name in ("low", "middle", "high")))


def _tallies(plan: Plan, units: Units, run: int, many: int) -> Tallies:
    """What the service would know after so many units."""
    stratum, arm = units.stratum[run, :many], units.arm[run, :many]
    strata = {name: Strata(one.p, one.m[run], one.stages) for name, one in units.strata.items()}
    counts = {name: add(empty(strata[name]), stratum, arm, units.y[name][run, :many]) for name in strata}
    assigned = next(iter(counts.values())).sum(-1)
    return Tallies(strata, counts, assigned, assigned, plan.evidence_stage)
