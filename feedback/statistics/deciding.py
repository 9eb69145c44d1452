"""What the tallies of a rollout say by its plan: go on, wait, pause, hold, roll back or promote. Pure: the same for a simulation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from feedback.statistics.forecast import Forecast, units_to_pass
from feedback.statistics.harm import late_harm_log_e
from feedback.statistics.margin import margin_table, relative_margin_table
from feedback.statistics.plan import Metric, Plan, Watch
from feedback.statistics.sample_ratio import Counted, SampleRatio, sample_ratio
from feedback.statistics.tallies import Floats, Ints, Strata, log_mean_exp

Action = Literal["rollback", "hold", "pause", "wait", "advance", "promote"]


FIRM = 20
"""So many units is the rate worth that was expected, where a forecast rests on few."""


@dataclass(frozen=True, eq=False)
class Tallies:
    """What is known of a rollout at one moment: of closed units only, in order of assignment."""

    strata: Mapping[str, Strata]
    """By a watch's name: the shares are the same, the rates are each one's own."""
    counts: Mapping[str, Ints]
    """By a watch's name too, int[S, 2, 2]."""
    assigned: Ints
    """Units by stratum and arm, int[S, 2]; so is `closed`, of the longest age."""
    closed: Ints
    stage: int = 0
    in_stage_us: int = 0
    """How long the stage has lasted."""
    late: Ints | None = None
    """Closed units of which something came too late to count, like `closed`: as many of each arm as were drawn, or nothing compares."""


@dataclass(frozen=True)
class Decision:
    """`reasons` are sentences, the one that decided first; `missing` units by guardrail, None where no number would be enough."""

    action: Action
    reasons: tuple[str, ...]
    missing: Mapping[str, Forecast | None] = field(default_factory=dict)
    ratios: tuple[SampleRatio, ...] = ()
    """What a hold for a mismatch goes by, whether there is one or not."""


def decide(tallies: Tallies, plan: Plan) -> Decision:
    """What is to be done now. A rollback goes before a hold, that before a pause, that before going on."""
    ratios = _ratios(tallies, plan)
    return replace(_decided(tallies, plan, ratios), ratios=ratios)


def _decided(tallies: Tallies, plan: Plan, ratios: Iterable[SampleRatio]) -> Decision:
    if harmed := _harmed(tallies, plan, plan.watches("guardrail")):
        return Decision("rollback", tuple(harmed))
    if mismatch := [_mismatch(ratio) for ratio in ratios if ratio.mismatch]:
        return Decision("hold", tuple(mismatch))
    if signals := _harmed(tallies, plan, plan.watches("signal")):
        return Decision("pause", tuple(signals))
    return _onward(tallies, plan)


def _onward(tallies: Tallies, plan: Plan) -> Decision:
    stage, last = plan.stages[tallies.stage], tallies.stage == len(plan.stages) - 1
    missing = _missing(tallies, plan) if tallies.stage >= plan.evidence_stage else {}
    if missing and tallies.in_stage_us >= stage.maximum_us:
        return Decision(
            "hold", ("the stage is as long as it may be, and the evidence is not enough", *_said(missing)), missing
        )
    if missing:
        return Decision("wait", tuple(_said(missing)), missing)
    if tallies.in_stage_us < stage.minimum_us:
        return Decision("wait", (f"the share of {stage.share:.0%} stays for {_days(stage.minimum_us)} at least",))
    following = "everybody" if last else f"{plan.stages[tallies.stage + 1].share:.0%}"
    return Decision("promote" if last else "advance", (f"nothing speaks against {following}",))


def _harmed(tallies: Tallies, plan: Plan, watches: Iterable[Watch]) -> Iterable[str]:
    found = []
    for watch in watches:
        log_e = float(late_harm_log_e(tallies.counts[watch.name], tallies.strata[watch.name], plan.shifts))
        if log_e >= watch.log_threshold:
            found.append(
                f"{watch.name}: {_arms(tallies.counts[watch.name])}; evidence {_odds(log_e)}, needed {_odds(watch.log_threshold)}"
            )
    return found


def _ratios(tallies: Tallies, plan: Plan) -> tuple[SampleRatio, ...]:
    strata = next(iter(tallies.strata.values()))
    kinds: dict[Counted, Ints | None] = {"assigned": tallies.assigned, "closed": tallies.closed, "late": tallies.late}
    return tuple(
        sample_ratio(counted, units, strata, plan.ratio_alpha, plan.tilts)
        for counted, units in kinds.items()
        if units is not None
    )


def _mismatch(ratio: SampleRatio) -> str:
    units = {"assigned": "assigned units", "closed": "closed units", "late": "units with late events"}[ratio.counted]
    return (
        f"sample ratio: {ratio.candidate} of {ratio.of} {units} are the candidate's where {ratio.expected:.0f} were to be expected; "
        f"evidence {_odds(ratio.log_e)}, needed {_odds(ratio.log_needed)}, so no other figure can be trusted"
    )


def guardrail_table(metric: Metric, strata: Strata, plan: Plan) -> Floats:
    """The logs of its bets' factors, [..., K, S, 2, 2]."""
    if metric.margin is not None:
        return margin_table(strata, metric.margin, plan.fractions)
    assert metric.relative_margin is not None  # one of the two, see Metric
    return relative_margin_table(strata, metric.relative_margin, plan.ratios)


def _missing(tallies: Tallies, plan: Plan) -> dict[str, Forecast | None]:
    """Units in this stage that each guardrail still needs, were both arms alike, with the rate that they have together."""
    missing: dict[str, Forecast | None] = {}
    for metric, watch in plan.proofs:
        counts, strata = tallies.counts[watch.name], tallies.strata[watch.name]
        wealth = (counts * guardrail_table(metric, strata, plan)).sum(axis=(-3, -2, -1))
        if float(log_mean_exp(wealth)) < plan.log_promotion:
            share, expected = _present(tallies, strata, plan)
            worth = int(counts.sum()) + FIRM
            rate = float((counts[..., 1].sum() + FIRM * expected) / worth)
            table = guardrail_table(metric, Strata(np.array([share]), np.array([expected])), plan)[:, 0]
            missing[metric.name] = units_to_pass(table, share, rate, rate, plan.log_promotion, wealth, worth)
    return missing


def _present(tallies: Tallies, strata: Strata, plan: Plan) -> tuple[float, float]:
    """The share at which units come now, and the rate that is expected of them; nobody may have come at it yet."""
    begun = strata.stages <= tallies.stage
    last = int(begun.sum()) - 1
    share = float(strata.p[last]) if strata.stages[last] == tallies.stage else plan.stages[tallies.stage].share
    return share, float(strata.m[last])


def _said(missing: Mapping[str, Forecast | None]) -> list[str]:
    return [
        f"{name}: not shown to be within its margin, "
        + (
            f"some {more.middle:,} units more would do ({more.low:,} to {more.high:,})"
            if more
            else "and no number of units would do"
        )
        for name, more in missing.items()
    ]


def _arms(counts: Ints) -> str:
    said = [f"{int(bad)} of {int(good + bad)}" for good, bad in counts.sum(0)]
    return f"candidate {said[1]} bad, incumbent {said[0]}"


def _odds(log_e: float) -> str:
    return f"{math.exp(min(log_e, 700)):,.0f} : 1"


def _days(us: int) -> str:
    return f"{us / 86_400_000_000:g} days"
