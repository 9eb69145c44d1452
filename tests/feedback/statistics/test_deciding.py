"""Decisions: harm before mismatch before signal before going on, each with the sentence that the on-call person needs."""

import dataclasses
import math

import numpy as np
import pytest

from feedback.statistics.deciding import Tallies, decide
from feedback.statistics.plan import DAY_US, Metric, Plan
from feedback.statistics.tallies import Ints, Strata

PLAN = Plan((Metric("thumbs down", margin=0.03), Metric("silence", "signal")), ages_us=(DAY_US,))
EVIDENCE = PLAN.evidence_stage


def _tallies(candidate: float = 0.1, silent: float = 0.5, units: int = 20_000, **changed: object) -> Tallies:
    strata = Strata(np.array([0.05, 0.25, 0.5]), np.array([0.1] * 3))
    counts = {"thumbs down at 24 h": _counts(0.1, candidate, units), "silence at 24 h": _counts(0.5, silent, units)}
    assigned = counts["thumbs down at 24 h"].sum(-1)
    tallies = Tallies(dict.fromkeys(counts, strata), counts, assigned, assigned, EVIDENCE, 4 * DAY_US)
    return dataclasses.replace(tallies, **changed)  # type: ignore[arg-type]


def _counts(incumbent: float, candidate: float, units: int) -> Ints:
    half = units // 2
    bad = [round(half * incumbent), round(half * candidate)]
    counts = np.zeros((3, 2, 2), np.int64)
    counts[2] = [[half - bad[0], bad[0]], [half - bad[1], bad[1]]]
    return counts


def test_equal_arms_go_on_when_the_guardrails_are_shown() -> None:
    decision = decide(_tallies(), PLAN)
    assert (decision.action, dict(decision.missing)) == ("advance", {})


def test_harm_rolls_back_and_says_by_what_evidence() -> None:
    decision = decide(_tallies(candidate=0.15), PLAN)
    assert decision.action == "rollback"
    assert "thumbs down at 24 h: candidate 1500 of 10000 bad, incumbent 1000 of 10000" in decision.reasons[0]


def test_a_sample_ratio_mismatch_holds_and_does_not_roll_back() -> None:
    decision = decide(_tallies(assigned=np.array([[0, 0], [0, 0], [10_000, 9_000]])), PLAN)
    assert decision.action == "hold"
    assert "9000 of 19000 assigned units are the candidate's where 9500" in decision.reasons[0]
    assigned = decision.ratios[0]
    assert f"evidence {math.exp(assigned.log_e):,.0f} : 1, needed 2,000 : 1" in decision.reasons[0]


def test_the_sample_ratios_that_a_decision_goes_by_are_told_whatever_it_is() -> None:
    lost, late = np.array([[0, 0], [0, 0], [10_000, 9_000]]), np.array([[0, 0], [0, 0], [60, 55]])
    for changed in ({}, {"candidate": 0.2}, {"silent": 0.6}):
        decision = decide(_tallies(closed=lost, late=late, **changed), PLAN)
        found = [(ratio.counted, ratio.candidate, ratio.of, ratio.mismatch) for ratio in decision.ratios]
        assert found == [("assigned", 10_000, 20_000, False), ("closed", 9_000, 19_000, True), ("late", 55, 115, False)]
        assert decision.action == ("rollback" if "candidate" in changed else "hold")


def test_news_that_come_too_late_from_one_arm_hold() -> None:
    alike, lopsided = (np.array([[0, 0], [0, 0], late]) for late in ([60, 55], [5, 60]))
    assert decide(_tallies(late=alike), PLAN).action == "advance"
    decision = decide(_tallies(late=lopsided), PLAN)
    assert decision.action == "hold"
    assert "60 of 65 units with late events are the candidate's where 32" in decision.reasons[0]


def test_harm_goes_before_a_mismatch() -> None:
    lost = np.array([[0, 0], [0, 0], [10_000, 9_000]])
    assert decide(_tallies(candidate=0.2, assigned=lost), PLAN).action == "rollback"


def test_a_signal_pauses() -> None:
    decision = decide(_tallies(silent=0.6), PLAN)
    assert decision.action == "pause"
    assert decision.reasons[0].startswith("silence at 24 h: candidate 6000 of 10000")


def test_too_few_units_wait_and_a_forecast_says_how_many_are_missing() -> None:
    decision = decide(_tallies(units=400), PLAN)
    assert decision.action == "wait"
    missing = decision.missing["thumbs down"]
    assert missing is not None
    assert 1_000 < missing.middle < 20_000
    assert f"some {missing.middle:,} units more would do ({missing.low:,} to {missing.high:,})" in decision.reasons[0]
    after = decide(_tallies(units=400 + 2 * missing.middle), PLAN)
    assert after.action == "advance"


def test_a_share_at_which_nobody_came_yet_is_the_one_that_is_forecast() -> None:
    """Whether the rollout has just been moved on or somebody came at the new share: the same units are missing."""
    first = _counts(0.1, 0.1, 400)[2:]
    before, after = (
        decide(_told(Strata(np.array(shares), np.array([0.1] * len(shares))), first), PLAN).missing["thumbs down"]
        for shares in ([0.05], [0.05, 0.25, 0.5])
    )
    assert before is not None
    assert before == after


def _told(strata: Strata, first: Ints) -> Tallies:
    """Of these units in the first stratum, and nobody in the others."""
    counts = np.zeros((len(strata), 2, 2), np.int64)
    counts[0] = first
    by_watch = dict.fromkeys(("thumbs down at 24 h", "silence at 24 h"), counts)
    none = np.zeros((len(strata), 2), np.int64)
    return Tallies(dict.fromkeys(by_watch, strata), by_watch, none, none, EVIDENCE, 4 * DAY_US)


def test_a_stage_at_its_maximum_without_evidence_holds() -> None:
    decision = decide(_tallies(units=400, in_stage_us=29 * DAY_US), PLAN)
    assert decision.action == "hold"
    assert "as long as it may be" in decision.reasons[0]


def test_a_stage_lasts_its_minimum() -> None:
    decision = decide(_tallies(stage=0, in_stage_us=DAY_US), PLAN)
    assert (decision.action, decision.reasons) == ("wait", ("the share of 5% stays for 4 days at least",))


def test_from_the_last_stage_it_is_promoted_to_everybody() -> None:
    decision = decide(_tallies(stage=len(PLAN.stages) - 1), PLAN)
    assert (decision.action, decision.reasons) == ("promote", ("nothing speaks against everybody",))


def test_nothing_is_shown_by_an_early_stage() -> None:
    """5% of the traffic can roll back; it takes its minimum and goes on, for it could never prove enough."""
    assert decide(_tallies(units=400, stage=0, in_stage_us=4 * DAY_US), PLAN).action == "advance"


def test_a_candidate_beyond_the_margin_but_short_of_harm_is_never_promoted() -> None:
    strict = dataclasses.replace(PLAN, metrics=(Metric("thumbs down", margin=0.002),))
    decision = decide(_tallies(candidate=0.105), strict)
    assert decision.action == "wait"
    with pytest.raises(KeyError):
        decision.missing["silence"]
