"""Replaying: thousands of rollouts at once come to what one rollout comes to, unit by unit."""

import dataclasses

import numpy as np
import pytest

from feedback.statistics.deciding import Tallies, decide
from feedback.statistics.plan import DAY_US, HOUR_US, Metric, Plan
from feedback.statistics.replaying import Units, replay
from feedback.statistics.tallies import Ints, Strata, add, empty

PLAN = Plan((Metric("down", margin=0.2),), ages_us=(DAY_US,), harm_alpha=0.05)
STRATA = Strata(np.array([0.2, 0.3, 0.4, 0.6]), np.array([0.3, 0.25, 0.3, 0.35]), np.array([0, 1, 1, 2]))
NAME = "down at 24 h"


def _units(rates: tuple[float, float], runs: int = 12, many: int = 600, seed: int = 1) -> Units:
    random = np.random.default_rng(seed)
    stratum = np.sort(random.integers(0, len(STRATA), (runs, many)), 1)
    arm = (random.random((runs, many)) < STRATA.p[stratum]).astype(np.int64)
    y = (random.random((runs, many)) < np.array(rates)[arm]).astype(np.int64)
    return Units({NAME: STRATA}, stratum, arm, {NAME: y}, np.arange(many) * HOUR_US)


def _one_by_one(plan: Plan, units: Units, run: int) -> tuple[str, int]:
    counts: Ints = empty(STRATA)
    held: int | None = None
    for number in range(units.arm.shape[1]):
        cell = units.stratum[run, number], units.arm[run, number], units.y[NAME][run, number]
        counts = add(counts, *cell)
        stage = int(STRATA.stages[cell[0]])
        late = None
        if units.late is not None:
            seen = np.flatnonzero((units.late[run] >= 0) & (units.late[run] <= number))
            late = add(empty(STRATA), units.stratum[run, seen], units.arm[run, seen], 0 * seen).sum(-1)
        tallies = Tallies({NAME: STRATA}, {NAME: counts}, counts.sum(-1), counts.sum(-1), stage, 10 * DAY_US, late)
        decision = decide(tallies, plan)
        if decision.action == "rollback":
            return "rollback", number
        if decision.action == "advance" and stage >= plan.evidence_stage and held is None:
            return "promote", number
        if decision.action == "hold" and held is None:
            held = number
    return ("wait", units.arm.shape[1]) if held is None else ("hold", held)


@pytest.mark.parametrize("rates", [(0.3, 0.3), (0.3, 0.6), (0.5, 0.3)])
def test_each_rollout_comes_to_what_it_comes_to_by_itself(rates: tuple[float, float]) -> None:
    units = _units(rates, runs=6)
    action, at_unit = replay(PLAN, units)
    for run in range(len(action)):
        assert (action[run], at_unit[run]) == _one_by_one(PLAN, units, run)
    assert {"rollback", "promote"} & set(action.tolist())


def _with_late(units: Units, parts: tuple[float, float], seed: int = 2) -> Units:
    """Of each arm such a part has news that come too late, by the closing of one of the next fifty units."""
    random = np.random.default_rng(seed)
    after = np.arange(units.arm.shape[1]) + random.integers(0, 50, units.arm.shape)
    late = (random.random(units.arm.shape) < np.array(parts)[units.arm]) & (after < units.arm.shape[1])
    return dataclasses.replace(units, late=np.where(late, after, -1))


@pytest.mark.parametrize(
    ("rates", "parts"), [((0.3, 0.3), (0.1, 0.6)), ((0.3, 0.3), (0.2, 0.2)), ((0.3, 0.6), (0.0, 0.5))]
)
def test_news_that_come_late_hold_a_rollout_where_they_hold_it_by_itself(
    rates: tuple[float, float], parts: tuple[float, float]
) -> None:
    units = _with_late(_units(rates, runs=3), parts)
    action, at_unit = replay(PLAN, units)
    for run in range(len(action)):
        assert (action[run], at_unit[run]) == _one_by_one(PLAN, units, run)
    assert ("hold" in action.tolist()) == (parts[0] != parts[1] and rates[0] == rates[1])


def test_a_rollout_is_held_at_the_closing_by_which_too_many_of_one_arm_have_had_late_news() -> None:
    units = _units((0.3, 0.3))
    units = dataclasses.replace(units, late=np.where(units.arm == 1, np.maximum(np.arange(600), 100), -1))
    action, at_unit = replay(dataclasses.replace(PLAN, harm_alpha=1e-12, promotion_alpha=1e-12), units)
    assert set(action.tolist()) == {"hold"}
    assert (at_unit >= 100).all()


def test_blocks_of_any_size_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    units = _units((0.3, 0.5))
    whole = replay(PLAN, units)
    monkeypatch.setattr("feedback.statistics.replaying._AT_ONCE", 1)
    for first, second in zip(whole, replay(PLAN, units), strict=True):
        assert first.tolist() == second.tolist()


def test_arms_that_were_not_drawn_as_declared_hold() -> None:
    units = _units((0.3, 0.02))
    lost = dataclasses.replace(units, arm=units.arm * (np.arange(units.arm.shape[1]) % 2))  # every second one is lost
    action, _ = replay(dataclasses.replace(PLAN, harm_alpha=1e-12), lost)
    assert set(action.tolist()) == {"hold"}


def test_a_unit_outside_a_slice_changes_nothing_of_it() -> None:
    plan = dataclasses.replace(PLAN, slices=("lang:es",))
    units = _units((0.3, 0.3))
    harmless = units.y[NAME]
    harmed = np.where(units.arm == 1, 1, 0)
    outside = np.full_like(harmless, -1)
    for said, expected in ((outside, False), (harmed, True)):
        in_spanish = f"{NAME} in lang:es"
        both = {NAME: STRATA, in_spanish: STRATA}
        sliced = dataclasses.replace(units, strata=both, y={NAME: harmless, in_spanish: said})
        action, _ = replay(plan, sliced)
        assert ("rollback" in action.tolist()) == expected


def test_without_a_preference_in_the_shadow_nothing_is_promoted() -> None:
    units = _units((0.5, 0.1))
    assert "promote" in replay(PLAN, units)[0].tolist()
    doubtful = dataclasses.replace(units, shadow_log_e=np.zeros(len(units.arm)))
    assert "promote" not in replay(PLAN, doubtful)[0].tolist()
