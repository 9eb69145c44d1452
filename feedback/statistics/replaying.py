"""What a plan would have done with units, one look at each that closes: thousands of rollouts at once, by the service's own tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feedback.statistics.deciding import guardrail_table
from feedback.statistics.harm import harm_table, restart_weights
from feedback.statistics.plan import Plan, Watch
from feedback.statistics.sample_ratio import sample_ratio_table
from feedback.statistics.tallies import Floats, Ints, Strata

_AT_ONCE = 200_000
"""Units whose wealth is worked on at a time: as much as a processor's cache holds."""

_ENOUGH = 600.0


@dataclass(frozen=True, eq=False)
class Units:
    """R rollouts of N units each, in order of assignment. Raises ValueError where shapes differ."""

    strata: Mapping[str, Strata]
    """By a watch's name; rates may be [R, S]."""
    stratum: Ints
    """[R, N]; so are `arm` and each outcome."""
    arm: Ints
    y: Mapping[str, Ints]
    """By a watch's name: 1 is bad, -1 a unit outside the slice."""
    opened_us: Ints
    """[N], rising."""
    shadow_log_e: Floats | None = None
    """[R]: of the pairs before the canary. None: the candidate is better by assumption."""


def replay(plan: Plan, units: Units) -> tuple[NDArray[np.str_], Ints]:
    """What came of each rollout (rollback, hold, promote, or wait: nothing), and at the closing of which unit, N where nothing did.

    A promotion here is leaving the stage that wants evidence; its guardrails are looked at together at the longest age.
    """
    runs, many = units.arm.shape
    action, at_unit = np.full(runs, "wait", "<U8"), np.full(runs, many, np.int64)
    step = max(1, _AT_ONCE // many)
    for start in range(0, runs, step):
        block = slice(start, start + step)
        action[block], at_unit[block] = _replay(plan, units, block)
    return action, at_unit


def _replay(plan: Plan, units: Units, block: slice) -> tuple[NDArray[np.str_], Ints]:
    many = units.arm.shape[1]
    arm, stratum = units.arm[block], units.stratum[block]
    rollback, rollback_us = np.full(len(arm), many), np.full(len(arm), np.inf)
    for watch in plan.watches("guardrail"):
        at = first(_harm_path(plan, units, block, watch) >= watch.log_threshold)
        at_us = _closing(units.opened_us, at, watch.age_us)
        rollback, rollback_us = np.where(at_us < rollback_us, at, rollback), np.minimum(at_us, rollback_us)
    age = plan.ages_us[-1]
    any_strata = next(iter(units.strata.values()))
    ratio = _path(_flat(sample_ratio_table(_of(any_strata, block), plan.tilts), 2), stratum * 2 + arm)
    hold = first(ratio >= math.log(1 / plan.ratio_alpha))
    hold_us = _closing(units.opened_us, hold, 0)
    promote = _promotions(plan, units, block)
    promote_us = _closing(units.opened_us, promote, age)
    times = np.stack([np.full(len(arm), np.inf), rollback_us, hold_us, promote_us])
    which = np.where(np.isfinite(times).any(0), times.argmin(0), 0)
    named = np.array(["wait", "rollback", "hold", "promote"])[which]
    # a rollout on hold is not promoted, but harm still ends it
    named = np.where((named == "hold") & (rollback_us < np.inf), "rollback", named)
    at_unit = np.select([named == "rollback", named == "hold", named == "promote"], [rollback, hold, promote], many)
    return named, at_unit


def _promotions(plan: Plan, units: Units, block: slice) -> Ints:
    arm, stratum = units.arm[block], units.stratum[block]
    any_strata = next(iter(units.strata.values()))
    ready = any_strata.stages[stratum] >= plan.evidence_stage
    for metric, watch in plan.proofs:
        table = guardrail_table(metric, _of(units.strata[watch.name], block), plan)
        ready &= _path(_flat(table, 3), cells(stratum, arm, units.y[watch.name][block])) >= plan.log_promotion
    for watch in plan.watches("signal"):
        ready &= _harm_path(plan, units, block, watch) < watch.log_threshold
    if units.shadow_log_e is not None:
        ready &= (units.shadow_log_e[block] >= plan.log_promotion)[:, None]
    return first(ready)


def cells(stratum: Ints, arm: Ints, y: Ints) -> Ints:
    """Where each unit's factor stands in a table whose last axes are flat; -1 for a unit that does not count."""
    return np.asarray(np.where(y < 0, -1, (stratum * 2 + arm) * 2 + y), np.int64)


def first(reached: NDArray[np.bool_]) -> Ints:
    """The number of the first unit at which it was reached, [R]; N where it never was."""
    return np.asarray(np.where(reached.any(1), reached.argmax(1), reached.shape[1]), np.int64)


def _closing(opened_us: Ints, unit: Ints, age_us: int) -> Floats:
    return np.asarray(
        np.where(unit < len(opened_us), opened_us[np.minimum(unit, len(opened_us) - 1)] + float(age_us), np.inf), float
    )


def _of(strata: Strata, block: slice) -> Strata:
    p, m = (values[block] if values.ndim > 1 else values for values in (strata.p, strata.m))
    return Strata(p, m, strata.stages)


def _walks(table: Floats, cell: Ints) -> Iterator[Floats]:
    """The log wealth of each bet after each unit, [R, N]; of the logs of factors by cell, [K, C] or [R, K, C]."""
    table = np.concatenate([table, np.zeros((*table.shape[:-1], 1))], -1)  # the last: a unit that does not count
    cell = np.where(cell < 0, table.shape[-1] - 1, cell)
    for bet in range(table.shape[-2]):
        factors = table[..., bet, :]
        steps: Floats = factors[cell] if factors.ndim == 1 else np.take_along_axis(factors, cell, 1)
        yield steps.cumsum(1, out=steps)


def _flat(table: Floats, axes: int) -> Floats:
    return table.reshape(*table.shape[:-axes], -1)


def _path(table: Floats, cell: Ints) -> Floats:
    """log E after each unit, [R, N]."""
    return _log_mean(_walks(table, cell))


def _log_mean(walks: Iterable[Floats]) -> Floats:
    """log of the mean wealth; -inf where all is lost, and no more than `_ENOUGH`, beyond which it changes no decision."""
    total, many = np.zeros(()), 0
    for walk in walks:
        total, many = total + np.exp(np.minimum(walk, _ENOUGH, out=walk), out=walk), many + 1
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(total / many), float)


def _harm_path(plan: Plan, units: Units, block: slice, watch: Watch) -> Floats:
    """log E after each unit, as `late_harm_log_e` would have it of the counts until then."""
    strata = _of(units.strata[watch.name], block)
    stratum = units.stratum[block]
    stage = strata.stages[stratum]
    weights = restart_weights(int(strata.stages[-1]) + 1)
    begins = [first(stage >= number) for number in range(len(weights))]
    table = _flat(harm_table(strata, plan.shifts), 3)
    cell = cells(stratum, units.arm[block], units.y[watch.name][block])
    begun = _log_mean(_restarted(walk, begins, weights, stage) for walk in _walks(table, cell))
    return np.asarray(np.logaddexp(begun, np.log(1 - weights.cumsum())[stage]), float)  # what has not begun counts as 1


def _restarted(walk: Floats, begins: list[Ints], weights: Floats, stage: Ints) -> Floats:
    """The log wealth, [R, N], of one bet that was begun anew with each stage."""
    run, many = np.arange(len(walk)), walk.shape[1]
    stake = np.full((len(walk), len(weights)), -np.inf)
    for number, begin in enumerate(begins):
        before = np.where(begin > 0, walk[run, np.clip(begin, 1, many) - 1], 0.0)
        stake[:, number] = np.where(begin < many, math.log(weights[number]) - before, -np.inf)
    walk += np.take_along_axis(np.logaddexp.accumulate(stake, 1), stage, 1)
    return walk
