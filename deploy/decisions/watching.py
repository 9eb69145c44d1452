"""Looking at the rollout under way: what its units' outcomes say by the plan that was approved. Reads facts; decides nothing itself.

Everything is computed from what is stored, so a controller that was killed sees what it saw before, and two see the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from deploy.control.records import Period, RolloutLook
from deploy.control.store import Control
from deploy.control.transaction import Transaction
from deploy.decisions.evidence import policy_of
from deploy.decisions.expecting import outlook, per_day
from deploy.decisions.outcomes import tell
from deploy.decisions.tallying import Tallied, stage_of, tally
from deploy.rules.approval import VERSION, evidence_of
from deploy.rules.elapsed import AHEAD_S
from deploy.rules.plan import plan_of
from deploy.rules.rollout import Rollout
from deploy.settings import RolloutSettings, Settings
from deploy.text import iso
from feedback.clock import Clock
from feedback.facts.reader import Facts
from feedback.statistics.deciding import Decision, decide
from feedback.statistics.harm import late_harm_log_e
from feedback.statistics.margin import difference_bounds
from feedback.statistics.plan import HOUR_US, Plan, Watch
from feedback.statistics.sample_ratio import SampleRatio
from feedback.statistics.tallies import CANDIDATE, INCUMBENT, Ints

CONFIDENCE = 0.95
"""Of the bounds that are shown, each at all times."""


class Watching:
    """Over one control database and the facts beside it."""

    def __init__(self, control: Control, facts: Facts, settings: Callable[[], Settings], clock: Clock) -> None:
        self._control, self._facts, self._settings, self._clock = control, facts, settings, clock
        self._looked: tuple[int, float] | None = None
        """When it looked last: by the clock, and by the one that can't be set."""

    def look(self) -> RolloutLook | None:
        """What there is to be seen now, kept for whoever asks; None where no rollout is under way, or it leaves nobody to compare with."""
        now_us, jumped_s = self._clock.now_us(), self._jumped_s()
        with self._control.read() as tx:
            serving = tx.serving()
            under_way = serving.rollout
            if under_way is None:
                return None
            asked = approved_settings(tx, under_way, self._settings())
            plan = plan_of(asked, tx.rollbacks(under_way.candidate) + 1)
            periods, last = tx.periods(under_way.id), tx.look(under_way.id)
        if plan is None:
            return None
        clock = _distrusted(jumped_s, now_us, last if last and last.document["revision"] == serving.revision else None)
        document = self._document(plan, under_way, periods, now_us, clock)
        by = {"revision": serving.revision, "advance": asked.advance, "clock": clock}
        look = RolloutLook(under_way.id, now_us, document | by)
        with self._control.change() as tx:
            tx.save_look(look)
        return look

    def _jumped_s(self) -> float:
        """How far the clock was set since the last look, ahead or back."""
        now, before = (self._clock.now_us(), self._clock.monotonic_s()), self._looked
        self._looked = now
        return 0.0 if before is None else (now[0] - before[0]) / 1e6 - (now[1] - before[1])

    def _document(
        self, plan: Plan, under_way: Rollout, periods: list[Period], now_us: int, clock: str | None
    ) -> dict[str, Any]:
        enrolments = self._control.assignments.enrolments(under_way.id)
        stage, in_stage_us = stage_of(plan, under_way.share), max(0, now_us - _since_us(under_way, periods))
        about = {
            "rollout": under_way.id,
            "candidate": under_way.candidate,
            "share": under_way.share,
            "in_stage_s": in_stage_us // 1_000_000,
            "plan": plan.sha256,
            "periods": _shares(periods),
        }
        if not enrolments:
            begin = Decision("advance", (f"it is approved: the share of {plan.stages[0].share:.0%} may begin",))
            nobody = Decision("wait", ("nobody has come to this rollout yet",))
            nothing = {"units": _by_arm([0, 0]), "closed": _by_arm([0, 0]), "late": 0, "metrics": []}
            return about | _decided(nobody if under_way.share else begin) | nothing
        received = self._facts.received_since(enrolments[0].at_us)
        told = tell(enrolments, ((received_us, event) for _, received_us, event in received))
        tallied = tally(plan, enrolments, told, now_us, stage, in_stage_us)
        decision = decide(tallied.tallies, plan)
        if clock is not None and decision.action != "rollback":
            decision = replace(decision, action="hold", reasons=(clock, *decision.reasons))
        still_open = enrolments[int(tallied.tallies.closed.sum()) :]
        closing_us = [one.at_us + plan.ages_us[-1] + plan.grace_us - now_us for one in still_open]
        expected = outlook(plan, decision, stage, in_stage_us, per_day(enrolments, now_us), closing_us)
        return about | _decided(decision) | {"outlook": asdict(expected)} | _arms(plan, tallied)


def approved_settings(tx: Transaction, under_way: Rollout, configured: Settings) -> RolloutSettings:
    """By which rules this rollout runs: those that were approved; the present ones where it was before they were kept."""
    approved = tx.seal(tx.approvals(under_way.candidate)[0].seal)
    policy = evidence_of(approved.evidence).policy if approved.version == VERSION else policy_of(configured)
    return policy.rollout


def _since_us(under_way: Rollout, periods: list[Period]) -> int:
    """Since when the share is what it is; `periods` are the newest first."""
    since = under_way.approved_at_us
    for period in periods:
        if period.share != under_way.share:
            break
        since = period.started_at_us
    return since


def _distrusted(jumped_s: float, now_us: int, last: RolloutLook | None) -> str | None:
    """Why the clock is not to be trusted since it jumped, until somebody has done something with the rollout; None where it is.

    `last` is the look before, where nobody has done anything since.
    """
    if last is not None and (known := last.document.get("clock")) is not None:
        return str(known)
    if last is not None and abs(jumped_s) <= AHEAD_S:
        jumped_s = min(
            0.0, (now_us - last.at_us) / 1e6
        )  # by a look of another process, or of this one before it was killed
    if abs(jumped_s) <= AHEAD_S:
        return None
    way = "ahead" if jumped_s > 0 else "back"
    return (
        f"the clock was set {way} by {abs(jumped_s) / 3_600:,.1f} h while the rollout ran, so windows and shares did not last as long "
        f"as they say: set it right, then `trimtab pause`, and `trimtab resume` once this is gone from here (half a minute); or roll back"
    )


def _shares(periods: list[Period]) -> list[dict[str, Any]]:
    """What share it had since when, the first one first."""
    return [{"share": one.share, "halted": one.halted, "since": iso(one.started_at_us)} for one in reversed(periods)]


def _decided(decision: Decision) -> dict[str, Any]:
    missing = {name: more and asdict(more) for name, more in decision.missing.items()}
    ratios = [_ratio(ratio) for ratio in decision.ratios]
    return {"action": decision.action, "reasons": list(decision.reasons), "missing": missing, "sample_ratio": ratios}


def _ratio(ratio: SampleRatio) -> dict[str, Any]:
    """Not rounded: who reads it sees a mismatch exactly where it holds."""
    return {
        "counted": ratio.counted,
        "candidate": ratio.candidate,
        "of": ratio.of,
        "expected": ratio.expected,
        "log_evidence": ratio.log_e,
        "log_evidence_needed": ratio.log_needed,
    }


def _arms(plan: Plan, tallied: Tallied) -> dict[str, Any]:
    """The arms side by side, for people."""
    tallies = tallied.tallies
    return {
        "units": _by_arm(tallies.assigned.sum(0).tolist()),
        "closed": _by_arm(tallies.closed.sum(0).tolist()),
        "late": tallied.late,
        "latency_ms": tallied.latency_ms,
        "metrics": [_metric(watch, tallied, plan) for watch in plan.every_watch],
    }


def _metric(watch: Watch, tallied: Tallied, plan: Plan) -> dict[str, Any]:
    counts, strata = tallied.tallies.counts[watch.name], tallied.tallies.strata[watch.name]
    lower, upper = difference_bounds(counts, strata, 1 - CONFIDENCE)
    return {
        "metric": watch.metric,
        "kind": next(metric.kind for metric in plan.metrics if metric.name == watch.metric),
        "age_h": watch.age_us / HOUR_US,
        "slice": watch.slice,
        "bad": _by_arm(counts[..., 1].sum(0).tolist()),
        "of": _by_arm(counts.sum((0, 2)).tolist()),
        "difference": [round(lower, 4), round(upper, 4)],
        "log_evidence_of_harm": round(float(late_harm_log_e(counts, strata, plan.shifts)), 3),
        "log_evidence_needed": round(watch.log_threshold, 3),
    }


def _by_arm(values: Ints | list[int]) -> dict[str, int]:
    return {"candidate": int(values[CANDIDATE]), "incumbent": int(values[INCUMBENT])}
