"""Do forecasts come true? Rollouts of equal arms: what a look half-way says against what came, and the day that was named beforehand."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from bench.rollouts.scenarios import WIDE
from bench.rollouts.world import World
from deploy.decisions.forecasting import Traffic, forecast
from feedback.statistics.deciding import Tallies, decide
from feedback.statistics.forecast import Forecast
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

    @property
    def within_range(self) -> bool:
        """Whether what came lies in the range that was said, which four of five do."""
        return self.more.low <= self.needed <= self.more.high

    @property
    def within_twice(self) -> bool:
        """Whether all units together are at most twice those that were forecast, and at least half."""
        return 0.5 <= (self.half + self.needed) / (self.half + self.more.middle) <= 2

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
            missing = decide(_tallies(one.plan, units, run, half), one.plan).missing.values()
            if missing and None not in missing:
                day = (int(units.opened_us[at]) + one.plan.ages_us[-1] + one.plan.grace_us) // DAY_US + 1
                found.append(Came(half, _last(list(missing)), at - half, said_day, day))
    return found


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
