"""A public that is served by two arms: users of different temper, weeks that go up and down, a step, shares that rise, late news.

One unit is a user, with one bad outcome or none for each metric. What is drawn are events, told late, twice and out of order, which go
through the service's own closing; the rates are exactly those that a scenario names, averaged over users and the week.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from feedback.statistics.closing import close, counting
from feedback.statistics.plan import DAY_US, HOUR_US, Plan
from feedback.statistics.replaying import Units
from feedback.statistics.tallies import Floats, Ints, Strata

NEWS = 3.0
"""How early bad events come within the longest age: by a part t of it 1 - (1 - t) ** NEWS of them."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """Units of R rollouts that came at the same times, in order of assignment."""

    opened_us: Ints
    """[N], rising."""
    stratum: Ints
    """[N]."""
    arm: Ints
    """[R, N]."""
    share: Floats
    """By stratum, with which probability the candidate's arm was drawn, [S]; so is the stage of each."""
    stage: Ints
    temper: Floats
    """[R, N]: from -1, a user who never minds, to 1, one who minds twice as often as others, or as good as always."""
    members: Mapping[str, NDArray[np.bool_]]
    """By slice, [R, N]."""


def tempers(shape: tuple[int, ...], random: np.random.Generator) -> Floats:
    """More users are of either kind than in between; 0 on average."""
    return np.asarray(np.cos(np.pi * random.random(shape)), float)


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
    late: tuple[float, float] = (0.0, 0.0)
    """The part of the incumbent's and of the candidate's news that come up to a day after grace."""
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

    def rollouts(self, plan: Plan, many: int, random: np.random.Generator) -> Iterator[Units]:
        """So many rollouts, as they looked to the service when each unit closed; how many at once is the world's choice."""
        opened, stratum = self.opened_us, self.stratum
        share = np.array([share for share, _ in self.shares[: int(stratum[-1]) + 1]])
        shape = (many, len(opened))
        arm = (random.random(shape) < share[stratum]).astype(np.int64)
        members = {name: random.random(shape) < part for name, part in self.sliced.items()}
        drawn = Drawn(opened, stratum, arm, share, np.arange(len(share)), tempers(shape, random), members)
        yield self.told(plan, drawn, random)

    def told(self, plan: Plan, drawn: Drawn, random: np.random.Generator) -> Units:
        """What becomes of units that were drawn."""
        opened, arm = drawn.opened_us, drawn.arm
        y: dict[str, Ints] = {}
        strata = {}
        swing = self._swing(opened, len(arm), random)
        late = np.full(arm.shape, len(opened))
        for metric in plan.metrics:
            truly = self._truly(metric.name, drawn, swing, random)
            told = [self._closed(plan, opened, bad, arms, random) for bad, arms in zip(truly, arm, strict=True)]
            late = np.minimum(late, [seen for _, seen in told])
            for watch in plan.every_watch:
                if watch.metric == metric.name:
                    known = np.stack([outcomes[watch.age_us] for outcomes, _ in told])
                    y[watch.name] = known if watch.slice is None else np.where(drawn.members[watch.slice], known, -1)
                    expected = self._expected(metric.name, plan, watch.age_us, drawn, y[watch.name], random)
                    strata[watch.name] = Strata(drawn.share, expected, drawn.stage)
        seen = np.where(late < len(opened), late, -1) if any(self.late) else None
        return Units(strata, np.broadcast_to(drawn.stratum, arm.shape), arm, y, opened, late=seen)

    def _swing(self, opened: Ints, rollouts: int, random: np.random.Generator) -> Floats:
        """What the rates are multiplied by when each unit comes, [R, N]: 1 on average over a week, until the step."""
        day = opened / DAY_US
        phase = random.random((rollouts, 1)) * 7
        swing = 1 + self.weekly * np.sin(2 * np.pi * (day - phase) / 7)
        return np.asarray(swing * (1 + self.step * (day >= random.random((rollouts, 1)) * self.days)), float)

    def _truly(self, metric: str, drawn: Drawn, swing: Floats, random: np.random.Generator) -> Ints:
        """The bad outcomes, [R, N], of users each of whom has a rate of his own around the arm's."""
        incumbent, candidate = self.rates[metric]
        failed = (drawn.arm == 1) & (random.random(drawn.arm.shape) < self.failing_over)
        rate = np.clip(np.where((drawn.arm == 1) & ~failed, candidate, incumbent) * swing, 0, 1)
        own = rate + np.minimum(rate, 1 - rate) * drawn.temper
        if self.outage is not None:
            day = drawn.opened_us / DAY_US
            own = np.where((day >= self.outage[0]) & (day < self.outage[1]), 0.9, own)
        bad = random.random(own.shape) < own
        return (bad | failed if metric == "errors" else bad).astype(np.int64)

    def _closed(
        self, plan: Plan, opened: Ints, bad: Ints, arm: Ints, random: np.random.Generator
    ) -> tuple[dict[int, Ints], Ints]:
        """Outcomes by age, from events that come within grace or too late, some twice, in any order; and by which closing too late."""
        unit = np.flatnonzero(bad)
        at = opened[unit] + (random.beta(1, NEWS, len(unit)) * (plan.ages_us[-1] - 1)).astype(np.int64)
        delay = (random.beta(1, 4, len(unit)) * plan.grace_us).astype(np.int64)
        arrived = at + np.where(arm[unit] * self.slow_candidate, plan.grace_us, delay)
        closes = opened + plan.ages_us[-1] + plan.grace_us
        if any(self.late):
            slow = random.random(len(unit)) < np.array(self.late)[arm[unit]]
            arrived = np.where(slow, closes[unit] + 1 + (random.random(len(unit)) * DAY_US).astype(np.int64), arrived)
        mixed = random.permutation(
            np.append(np.arange(len(unit)), random.integers(0, max(1, len(unit)), len(unit) // 10))
        )
        unit, at, arrived = (column[mixed] for column in (unit, at, arrived)) if len(unit) else (unit, at, at)
        by_age = {age: close(opened, unit, at, arrived, age, plan.grace_us, int(closes[-1])).y for age in plan.ages_us}
        seen = np.full(len(opened), len(opened))
        within, in_time = counting(opened[unit], at, arrived, plan.ages_us[-1], plan.grace_us)
        too_late = within & ~in_time
        np.minimum.at(seen, unit[too_late], np.searchsorted(closes, arrived[too_late]))
        return by_age, seen

    def _expected(
        self, metric: str, plan: Plan, age_us: int, drawn: Drawn, y: Ints, random: np.random.Generator
    ) -> Floats:
        """The base rate of each stratum as it was known when it was opened, [R, S]: the first from history, off by up to a fifth."""
        closes = drawn.opened_us + age_us + plan.grace_us
        by_then = 1 - (1 - age_us / plan.ages_us[-1]) ** NEWS  # of all bad events of a unit
        expected = [self.rates[metric][0] * by_then * random.uniform(0.8, 1.2, len(y))]
        for number in range(1, len(drawn.share)):
            closed = int(np.searchsorted(closes, drawn.opened_us[np.argmax(drawn.stratum == number)], side="right"))
            known = (drawn.arm[:, :closed] == 0) & (y[:, :closed] >= 0)
            seen = known.sum(1)
            bad = (known & (y[:, :closed] == 1)).sum(1)
            expected.append(np.where(seen < 100, expected[-1], (bad + 0.5) / (seen + 1)))
        return np.clip(np.stack(expected, -1), 1e-4, 1 - 1e-4)
