"""What a plan would have done with units, one look at each that closes: thousands of rollouts at once, by the service's own tables.

Most rollouts never come near a threshold. Whether one can have is seen from the counts of `_BLOCK` units at a time, by a bound that
its evidence never exceeds; unit by unit only those are gone through that may have reached it, so nothing of what is said is approximate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feedback.statistics.deciding import guardrail_table
from feedback.statistics.harm import harm_table, restart_weights
from feedback.statistics.plan import Metric, Plan, Watch
from feedback.statistics.sample_ratio import late_ratio_table, sample_ratio_table
from feedback.statistics.tallies import Floats, Ints, Strata

_AT_ONCE = 200_000
"""Units whose wealth is worked on at a time: as much as a processor's cache holds."""

_BLOCK = 16

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
    late: Ints | None = None
    """[R, N]: the number of the unit by whose closing something of this one had come too late to count, -1 where nothing did."""


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
    rollback, rollback_us = np.full(len(units.arm[block]), many), np.full(len(units.arm[block]), np.inf)
    for watch in plan.watches("guardrail"):
        at = first(_harm(plan, units, block, watch).reached(watch.log_threshold))
        at_us = _closing(units.opened_us, at, watch.age_us)
        rollback, rollback_us = np.where(at_us < rollback_us, at, rollback), np.minimum(at_us, rollback_us)
    age = plan.ages_us[-1]
    drawn, late = _drawn(plan, units, block), _late(plan, units, block)
    hold = np.where(_closing(units.opened_us, drawn, 0) <= _closing(units.opened_us, late, age), drawn, late)
    hold_us = np.minimum(_closing(units.opened_us, drawn, 0), _closing(units.opened_us, late, age))
    promote = _promotions(plan, units, block)
    promote_us = _closing(units.opened_us, promote, age)
    times = np.stack([np.full(len(hold), np.inf), rollback_us, hold_us, promote_us])
    which = np.where(np.isfinite(times).any(0), times.argmin(0), 0)
    named = np.array(["wait", "rollback", "hold", "promote"])[which]
    # a rollout on hold is not promoted, but harm still ends it
    named = np.where((named == "hold") & (rollback_us < np.inf), "rollback", named)
    at_unit = np.select([named == "rollback", named == "hold", named == "promote"], [rollback, hold, promote], many)
    return named, at_unit


def _drawn(plan: Plan, units: Units, block: slice) -> Ints:
    """At which unit the arms were seen to be other than they were to be drawn; by those that have closed it is seen later."""
    strata, cell = _arms(units, block)
    table = _flat(sample_ratio_table(strata, plan.tilts), 2)
    return first(_Bets(table, cell).reached(math.log(1 / plan.ratio_alpha)))


def _late(plan: Plan, units: Units, block: slice) -> Ints:
    """The same of the units of which something came too late: at which unit's closing. They count as their news come."""
    runs, many = units.arm[block].shape
    if units.late is None:
        return np.full(runs, many)
    seen = np.where(units.late[block] < 0, many, units.late[block])
    order = seen.argsort(1, kind="stable")[:, : int((seen < many).sum(1).max(initial=0)) + 1]
    seen = np.take_along_axis(seen, order, 1)
    strata, cell = _arms(units, block)
    cell = np.take_along_axis(cell, order, 1)
    table = _flat(late_ratio_table(strata), 2)
    reached = _Bets(table, np.where(seen < many, cell, -1)).reached(math.log(1 / plan.ratio_alpha))
    reached &= np.diff(seen, append=many + 1) > 0  # what came before one closing is looked at together
    at = first(reached)
    last = np.minimum(at, seen.shape[1] - 1)
    return np.asarray(np.where(at < seen.shape[1], seen[np.arange(runs), last], many), np.int64)


def _arms(units: Units, block: slice) -> tuple[Strata, Ints]:
    """The strata, of which every watch has the same shares, and each unit's cell by stratum and arm."""
    return _of(next(iter(units.strata.values())), block), units.stratum[block] * 2 + units.arm[block]


def _promotions(plan: Plan, units: Units, block: slice) -> Ints:
    any_strata = next(iter(units.strata.values()))
    ready: NDArray[np.bool_] = any_strata.stages[units.stratum[block]] >= plan.evidence_stage
    if units.shadow_log_e is not None:
        ready &= (units.shadow_log_e[block] >= plan.log_promotion)[:, None]
    proofs = [_proof(plan, units, block, metric, watch) for metric, watch in plan.proofs]
    for proof in proofs:
        ready &= proof.may_reach(plan.log_promotion)[:, None]
    for proof in proofs:
        ready &= proof.reached(plan.log_promotion, np.asarray(ready.any(1), bool))
    for watch in plan.watches("signal"):
        ready &= ~_harm(plan, units, block, watch).reached(watch.log_threshold, np.asarray(ready.any(1), bool))
    return first(ready)


def _proof(plan: Plan, units: Units, block: slice, metric: Metric, watch: Watch) -> _Bets:
    table = _flat(guardrail_table(metric, _of(units.strata[watch.name], block), plan), 3)
    return _Bets(table, cells(units.stratum[block], units.arm[block], units.y[watch.name][block]))


def _harm(plan: Plan, units: Units, block: slice, watch: Watch) -> _Bets:
    """As `late_harm_log_e` would have it of the counts until each unit."""
    strata = _of(units.strata[watch.name], block)
    stratum = units.stratum[block]
    table = _flat(harm_table(strata, plan.shifts), 3)
    return _Bets(table, cells(stratum, units.arm[block], units.y[watch.name][block]), strata.stages, stratum)


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


def _flat(table: Floats, axes: int) -> Floats:
    return table.reshape(*table.shape[:-axes], -1)


@dataclass(frozen=True, eq=False)
class _Bets:
    """A mixture of K bets on a stream of units."""

    table: Floats
    """The logs of the factors by cell, [K, C] or [R, K, C]."""
    cell: Ints
    """[R, N]; -1 for a unit that does not count."""
    stages: Ints | None = None
    """Of each stratum, the cells' first axis, where all bets begin anew with each stage; None where they don't."""
    stratum: Ints | None = None
    """[R, N], where they do."""

    def reached(self, log_threshold: float, among: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Whether log E is at the threshold, or above, after each unit, [R, N]; of the rollouts `among` all."""
        found = np.zeros(self.cell.shape, bool)
        rows = np.flatnonzero(self.may_reach(log_threshold) if among is None else among)
        if len(rows):
            found[rows] = self._of(rows)._path() >= log_threshold
        return found

    def may_reach(self, log_threshold: float) -> NDArray[np.bool_]:
        """Whether log E can ever have been at the threshold, [R]: by no less than the most that it can have been within each block."""
        runs, many = self.cell.shape
        kinds, blocks = self.table.shape[-1], -(-many // _BLOCK)
        place = (np.arange(runs)[:, None] * blocks + np.arange(many) // _BLOCK) * (kinds + 1) + 1
        counts = np.bincount((place + self.cell).ravel(), minlength=runs * blocks * (kinds + 1))
        counts = counts.reshape(runs, blocks, kinds + 1)[..., 1:].astype(float)
        won = counts @ np.swapaxes(self.table, -1, -2)
        most = won.cumsum(1) - won + counts @ np.swapaxes(np.maximum(self.table, 0), -1, -2)
        if self.stages is not None and self.stratum is not None:
            last = np.minimum(np.arange(1, blocks + 1) * _BLOCK, many) - 1
            stakes = self._stakes(counts.sum(1))  # they never fall from stage to stage
            most += stakes[np.arange(runs)[:, None], self.stages[self.stratum[:, last]]]
            log_threshold -= math.log(2)  # what has not begun is worth a half at most
        return np.asarray(most.max((1, 2)) >= log_threshold - 1e-6, bool)

    def _of(self, rows: Ints) -> _Bets:
        table = self.table[rows] if self.table.ndim == 3 else self.table
        return _Bets(table, self.cell[rows], self.stages, None if self.stratum is None else self.stratum[rows])

    def _path(self) -> Floats:
        """log E after each unit, [R, N]."""
        runs = len(self.cell)
        table = np.concatenate([self.table, np.zeros((*self.table.shape[:-1], 1))], -1)  # a unit that does not count
        kinds, rows = table.shape[-1], np.arange(runs)[:, None]
        table = np.ascontiguousarray(np.broadcast_to(table, (runs, *table.shape[-2:])).swapaxes(0, 1))
        cell = np.where(self.cell < 0, kinds - 1, self.cell)
        place = cell + rows * kinds
        walks = (factors.ravel()[place].cumsum(1) for factors in table)
        if self.stages is None or self.stratum is None:
            return _log_mean(walks)
        counts = np.bincount(place.ravel(), minlength=runs * kinds).reshape(runs, kinds)[:, :-1].astype(float)
        stakes, stage = self._stakes(counts), self.stages[self.stratum]
        begun = rows * stakes.shape[1] + stage
        staked = (walk + stakes[..., bet].ravel()[begun] for bet, walk in enumerate(walks))
        idle = np.log(1 - restart_weights(stakes.shape[1]).cumsum())
        return np.asarray(np.logaddexp(_log_mean(staked), idle[stage]), float)  # what has not begun counts as 1

    def _stakes(self, counts: Floats) -> Floats:
        """By how much more than its own walk a bet has won that was begun anew with each stage, [R, stages, K], of all counts [R, C]."""
        assert self.stages is not None  # asked of bets with restarts
        stage_of_cell = np.repeat(self.stages, self.table.shape[-1] // len(self.stages))
        stakes = []
        for number, weight in enumerate(restart_weights(int(self.stages[-1]) + 1)):
            before = ((counts * (stage_of_cell < number))[:, None, :] * self.table).sum(-1)
            stakes.append(math.log(weight) - before)
        return np.asarray(np.logaddexp.accumulate(stakes, 0).swapaxes(0, 1), float)


def _log_mean(walks: Iterable[Floats]) -> Floats:
    """log of the mean wealth; -inf where all is lost, and no more than `_ENOUGH`, beyond which it changes no decision."""
    total, many = np.zeros(()), 0
    for walk in walks:
        total, many = total + np.exp(np.minimum(walk, _ENOUGH, out=walk), out=walk), many + 1
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(total / many), float)
