"""The situations that a gate is tried in, with what may come of them: 5,000 rollouts each, unless a scenario says otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bench.rollouts.returning import Returning
from bench.rollouts.world import World
from feedback.statistics.plan import DAY_US, Metric, Plan

ERRORS = Metric("errors", relative_margin=0.5)
DOWN = Metric("down", margin=0.03)
WIDE = Plan((DOWN, ERRORS), ages_us=(DAY_US, 3 * DAY_US), slices=("newcomers",))
"""A plan as a service has it: two guardrails, two ages, a slice: eight looks for harm at each unit."""
ONE = Plan((DOWN,), ages_us=(3 * DAY_US,))
NEWCOMERS: Mapping[str, float] = {"newcomers": 0.3}
ALIKE: Mapping[str, tuple[float, float]] = {"down": (0.10, 0.10), "errors": (0.02, 0.02)}


@dataclass(frozen=True)
class Limit:
    """Of all rollouts, at most (or at least) so many end so; `by_day` counts only those until that day's end."""

    action: str
    at_most: int | None = None
    at_least: float | None = None
    """A share of all."""
    by_day: int | None = None


@dataclass(frozen=True)
class Scenario:
    """A world, the plan that is followed in it, and what may come of it."""

    name: str
    world: World
    plan: Plan
    limits: tuple[Limit, ...]
    rivals: bool = False
    """Whether others' rules are shown on the same units, of the first metric."""
    attempts: int = 1
    twin: World | None = None
    """The same public, but for something that may change no decision."""


def _null(name: str, world: World, plan: Plan = WIDE, *, rivals: bool = False) -> Scenario:
    return Scenario(name, world, plan, (Limit("rollback", at_most=67), Limit("hold", at_most=11)), rivals)


def _power(rates: tuple[float, float], days: tuple[int, int]) -> list[Scenario]:
    """One metric with the whole alpha, and what a plan of many leaves it; a margin so wide that nothing is promoted before."""
    world = World({"down": rates}, days=days[1] + 2)
    found = []
    for alpha, day in zip((0.01, 0.0005), days, strict=True):
        plan = replace(ONE, harm_alpha=alpha, promotion_alpha=1e-9)
        limit = Limit("rollback", at_least=0.95, by_day=day)
        found.append(
            Scenario(f"{rates[0]:.2f} → {rates[1]:.2f} at {alpha:.2%}", world, plan, (limit,), rivals=alpha == 0.01)
        )
    return found


def _returning() -> list[Scenario]:
    """Ten thousand users a month who come back; of harm, one metric with the whole alpha."""
    rising = ((0.05, 4), (0.10, 4), (0.25, 4), (0.5, 18))
    found = [
        _null(
            "identical arms, users who come back", Returning(ALIKE, days=30, shares=rising, step=0.3, sliced=NEWCOMERS)
        )
    ]
    plan = replace(ONE, promotion_alpha=1e-9)
    for rates, day in (((0.30, 0.40), 9), ((0.30, 0.35), 22), ((0.03, 0.06), 12), ((0.02, 0.04), 14)):
        world = Returning({"down": rates}, days=day + 2)
        limit = Limit("rollback", at_least=0.95, by_day=day)
        found.append(Scenario(f"{rates[0]:.2f} → {rates[1]:.2f}, users who come back", world, plan, (limit,)))
    return found  # fmt: skip


def scenarios() -> list[Scenario]:
    """All of them, in the order in which they are shown."""
    at_margin = World({"down": (0.20, 0.23), "errors": (0.04, 0.004)}, days=24, step=0.3)
    harmless = replace(WIDE, slices=(), ages_us=(3 * DAY_US,))
    outage = World(ALIKE, days=12, shares=((0.05, 4), (0.5, 100)), rise_at=12, outage=(4.55, 4.8), sliced=NEWCOMERS)
    rare = World({"down": (0.20, 0.10), "errors": (0.04, 0.06)}, days=24, step=0.3)
    found = [
        _null("identical arms", World(ALIKE, days=12, step=0.3, sliced=NEWCOMERS), rivals=True),
        _null("the candidate is better", World({"down": (0.10, 0.07), "errors": (0.02, 0.01)}, days=12, step=0.3, sliced=NEWCOMERS), rivals=True),
        _null("a share raised at noon, an outage that afternoon", outage),
        _null("identical arms, at 50% from the first day", World(ALIKE, days=12, shares=((0.5, 12),), sliced=NEWCOMERS), rivals=True),
        _null("identical arms, one of twenty news after grace", World(ALIKE, days=12, step=0.3, sliced=NEWCOMERS, late=(0.05, 0.05))),
        _null("the candidate has half as much to tell, one of ten news after grace", World({"down": (0.20, 0.10), "errors": (0.04, 0.02)}, days=12, late=(0.1, 0.1)), harmless),
        Scenario(
            "worse, but nine of ten news of the candidate's come after grace", World({"down": (0.10, 0.20), "errors": (0.02, 0.04)}, days=12, late=(0.05, 0.9)), harmless,
            (Limit("hold", at_least=0.95), Limit("promote", at_most=0)),
        ),
        Scenario(
            "the candidate's news come at the end of grace", World({"down": (0.30, 0.35)}, days=12), ONE,
            (Limit("other", at_most=0),), twin=World({"down": (0.30, 0.35)}, days=12, slow_candidate=True),
        ),
        Scenario("one guardrail at its margin, the other hugely better", at_margin, harmless, (Limit("promote", at_most=286),), rivals=True),
        Scenario("errors at their relative margin, the other hugely better", rare, harmless, (Limit("promote", at_most=286),)),
        Scenario("five attempts at a guardrail's margin", replace(at_margin, days=16), harmless, (Limit("promote", at_most=286),), attempts=5),
        Scenario(
            "one candidate load in ten fails over",
            World(ALIKE, days=12, failing_over=0.1, sliced=NEWCOMERS), WIDE, (Limit("rollback", at_least=0.95, by_day=9),),
        ),
        *_power((0.30, 0.40), (8, 9)), *_power((0.30, 0.35), (12, 14)), *_power((0.03, 0.06), (10, 11)), *_power((0.02, 0.04), (12, 13)),
        *_returning(),
        Scenario(
            "equal in all guardrails", World({"down": (0.10, 0.10), "errors": (0.03, 0.03)}, days=24), harmless,
            (Limit("promote", at_least=0.8),), rivals=True,
        ),
    ]  # fmt: skip
    assert math.isclose(sum(watch.alpha for watch in WIDE.watches("guardrail")), WIDE.harm_alpha)
    return found
