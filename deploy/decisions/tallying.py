"""From units and what became of them to the tallies that a plan decides on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deploy.decisions.outcomes import Told, outcomes
from deploy.rules.assignment import Enrolment
from deploy.rules.plan import EXPECTED
from feedback.statistics.deciding import Tallies
from feedback.statistics.plan import Plan
from feedback.statistics.tallies import CANDIDATE, INCUMBENT, Ints, Strata, add, empty

ENOUGH = 100
"""Closed units from which their own rate is expected of those to come."""


@dataclass(frozen=True, eq=False)
class Tallied:
    """What is decided on, and what is shown beside it."""

    tallies: Tallies
    late: int
    """Events that came after their unit had closed."""
    latency_ms: dict[str, dict[str, float] | None]
    """By arm, how long replies took: the half and nineteen of twenty took at most so long; None where there were none."""


@dataclass(frozen=True, eq=False)
class _Drawn:
    """The units as columns, in order of assignment."""

    arm: Ints
    stratum: Ints
    share: np.ndarray
    """By stratum: the probability of the candidate's arm."""
    stage: Ints
    begins: Ints
    """By stratum: the number of its first unit."""


def tally(
    plan: Plan, enrolments: Sequence[Enrolment], told: Told, now_us: int, stage: int, in_stage_us: int
) -> Tallied:
    """The tallies of a rollout that has units."""
    drawn = _drawn(plan, enrolments)
    known = {age: outcomes(told, age, plan.grace_us, now_us) for age in plan.ages_us}
    counts, strata = {}, {}
    for watch in plan.every_watch:
        y = known[watch.age_us].y[watch.metric]
        member = np.array(
            [watch.slice is None or watch.slice in told.slices.get(unit, ()) for unit in range(len(y))], bool
        )
        strata[watch.name] = _strata(plan, drawn, told, y, member, watch.metric, watch.age_us)
        arm, stratum = drawn.arm[: len(y)][member], drawn.stratum[: len(y)][member]
        counts[watch.name] = add(empty(strata[watch.name]), stratum, arm, y[member])
    any_strata = next(iter(strata.values()))
    closed = len(known[plan.ages_us[-1]].y["errors"])
    late = known[plan.ages_us[-1]].late > 0
    assigned, done, came_late = (
        add(empty(any_strata), drawn.stratum[units], drawn.arm[units], 0 * drawn.arm[units]).sum(-1)
        for units in (slice(None), slice(closed), np.flatnonzero(late))
    )
    events = max(int(known[age].late.sum()) for age in plan.ages_us)
    return Tallied(
        Tallies(strata, counts, assigned, done, stage, in_stage_us, came_late), events, _latency_ms(told, drawn)
    )


def base_rate(metric: str, bad: int, closed: int) -> float:
    """What is expected of a metric: what these users came to, where they are enough; else what nobody has seen yet."""
    return (bad + 0.5) / (closed + 1) if closed >= ENOUGH else EXPECTED[metric]


def stage_of(plan: Plan, share: float) -> int:
    """Which stage this share belongs to: that of the plan with the largest share up to it, the first below that."""
    return max((number for number, stage in enumerate(plan.stages) if stage.share <= share + 1e-9), default=0)


def _drawn(plan: Plan, enrolments: Sequence[Enrolment]) -> _Drawn:
    kinds = [(stage_of(plan, one.share), one.probability) for one in enrolments]
    order = sorted(set(kinds))
    numbers = {kind: number for number, kind in enumerate(order)}
    stratum = np.array([numbers[kind] for kind in kinds], np.int64)
    arm = np.array([one.arm == "candidate" for one in enrolments], np.int64)
    begins = np.array([int(np.argmax(stratum == number)) for number in range(len(order))], np.int64)
    return _Drawn(
        arm, stratum, np.array([p for _, p in order]), np.array([stage for stage, _ in order], np.int64), begins
    )


def _latency_ms(told: Told, drawn: _Drawn) -> dict[str, dict[str, float] | None]:
    took, arm = np.array(told.latency_ms), drawn.arm[np.array(told.latency_of, np.int64)]
    names = {"candidate": took[arm == CANDIDATE], "incumbent": took[arm == INCUMBENT]}
    return {
        name: dict(zip(("median", "p95"), np.quantile(ms, (0.5, 0.95)).round().tolist(), strict=True))
        if len(ms)
        else None
        for name, ms in names.items()
    }


def _strata(plan: Plan, drawn: _Drawn, told: Told, y: Ints, member: np.ndarray, metric: str, age_us: int) -> Strata:
    """Each stratum's base rate is that of the incumbent's units which had closed when it began."""
    expected = []
    for begin in drawn.begins.tolist():
        closed = int(
            np.searchsorted(told.opened_us[: len(y)], told.opened_us[begin] - age_us - plan.grace_us, side="right")
        )
        of_incumbent = y[:closed][member[:closed] & (drawn.arm[:closed] == 0)]
        expected.append(base_rate(metric, int(of_incumbent.sum()), len(of_incumbent)))
    return Strata(drawn.share, np.array(expected, float), drawn.stage)
