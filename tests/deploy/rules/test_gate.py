"""The gate decides by the blind win rate, and says every reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.rules.gate import Comparisons, Hold, Pass, Reject, decide
from deploy.rules.reasons import Reason, sentences
from deploy.settings import GateSettings
from tests.deploy.candidates import good_report

SETTINGS = GateSettings()
WON = Comparisons(wins=180, ties=0, losses=80)
counts = st.integers(0, 1_000)


def stats(**changes: Any) -> dict[str, Any]:
    good = {"mean_tokens": 20.0, "repetition": 0.05, "language_match": 0.9}
    return {"sample_stats": {"candidate": good | changes, "incumbent": good}}


def test_a_clear_win_passes_with_its_figures() -> None:
    assert decide(good_report(), SETTINGS, WON, None) == Pass(
        (Reason("wins", {"win_rate": 180 / 260, "floor": 0.5, "count": 260, "bound": pytest.approx(0.643, abs=5e-4)}),)
    )


def test_too_few_comparisons_hold() -> None:
    decided = decide(good_report(), SETTINGS, Comparisons(), None)
    assert isinstance(decided, Hold)
    assert sentences(decided.reasons) == ["0 blind comparisons of 200 needed: hold"]


def test_a_win_rate_that_may_be_chance_holds_and_says_by_how_much() -> None:
    decided = decide(good_report(), SETTINGS, Comparisons(wins=218, losses=194), None)
    assert isinstance(decided, Hold)
    assert sentences(decided.reasons) == ["win rate 0.53, lower bound 0.489 ≤ 0.50, n=412: hold"]


def test_a_clear_loss_is_rejected() -> None:
    decided = decide(good_report(), SETTINGS, Comparisons(wins=80, losses=180), None)
    assert isinstance(decided, Reject)
    assert "upper bound 0.357 < 0.50" in sentences(decided.reasons)[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"probes": {"largest_difference": 0.0001}}, "no-op"),
        (stats(mean_tokens=60.0), "length: sampled replies are 3.0 times longer"),
        (stats(mean_tokens=5.0), "length: sampled replies are 4.0 times shorter"),
        (stats(mean_tokens=0.0), "empty"),
        (stats(repetition=0.8), "repetition"),
        (stats(language_match=0.5), "language"),
        (stats(repetition=float("nan")), "not finite: sample_stats.candidate.repetition"),
        ({"samples": [{"score": float("inf")}]}, "not finite: samples[0].score"),
        ({"probes": {}}, "the report can't be judged"),
        ({"sample_stats": "none"}, "the report can't be judged"),
    ],
)
def test_what_is_broken_is_rejected_by_name_even_when_it_wins(changes: dict[str, Any], reason: str) -> None:
    decided = decide(good_report(**changes), SETTINGS, WON, None)
    assert isinstance(decided, Reject)
    assert sentences(decided.reasons)[0].startswith(reason)


def sides(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    good = {
        "mean_tokens": 20.0,
        "median_tokens": 20.0,
        "repetition": 0.05,
        "language_match": 0.9,
        "count": 32,
        "cut": 0,
    }
    return {"sample_stats": {"candidate": good | ours, "incumbent": good | theirs}}


@pytest.mark.parametrize(
    ("ours", "theirs", "decision", "reason"),
    [
        # the limit makes what is cut look shorter than it is: lower bounds can still be too much
        (
            {"mean_tokens": 44.0, "median_tokens": 48.0, "cut": 24},
            {},
            "reject",
            "length: sampled replies are at least 2.4 times longer than the incumbent's (48 and 20 tokens; medians, 24 and "
            "0 replies were cut at their limit; limit 2 times)",
        ),
        ({"mean_tokens": 9.0, "median_tokens": 9.0}, {"median_tokens": 48.0, "cut": 20}, "reject", "length: sampled replies are at least 5.3 times shorter"),
        # a few that never end move a mean by as much as the limit allows, and no median
        ({"mean_tokens": 45.0, "median_tokens": 22.0, "cut": 4}, {"cut": 2}, "pass", "win rate"),
        # nothing is known of what both cut
        (
            {"mean_tokens": 48.0, "median_tokens": 48.0, "cut": 24},
            {"mean_tokens": 47.0, "median_tokens": 48.0, "cut": 20},
            "hold",
            "length: 24 of 32 sampled replies were cut at their limit, and 20 of 32 of the incumbent's, so lengths can't be "
            "compared (raise policy.sample_tokens): hold",
        ),
        # the limit alone must not let pass what does not end any more
        (
            {"mean_tokens": 30.0, "cut": 12},
            {},
            "hold",
            "length: 12 of 32 sampled replies had not ended at their limit, and 0 of 32 of the incumbent's (largest rise "
            "20%): hold",
        ),
    ],
)  # fmt: skip
def test_replies_that_were_cut_at_their_limit_are_not_taken_for_short_ones(
    ours: dict[str, Any], theirs: dict[str, Any], decision: str, reason: str
) -> None:
    decided = decide(good_report(**sides(ours, theirs)), SETTINGS, WON, None)
    assert decided.name == decision
    assert sentences(decided.reasons)[0].startswith(reason)
    assert len(decided.reasons) == 1 + (decision == "reject" and ours.get("cut", 0) > 0)


def retained(**changes: Any) -> dict[str, Any]:
    kept = {"gate_kl": 0.5, "neutral_kl": 0.1, "facts": {"asked": 24, "base_right": 12, "lost": ["a"], "gained": []}}
    return {"retention": kept | changes}


def test_what_was_forgotten_is_held_by_name() -> None:
    assert isinstance(decide(good_report(**retained()), SETTINGS, WON, None), Pass)
    facts = {"asked": 24, "base_right": 12, "lost": ["gold", "Hamlet", "water", "bees"], "gained": ["mars"]}
    decided = decide(good_report(**retained(neutral_kl=9.0, gate_kl=8.0, facts=facts)), SETTINGS, WON, None)
    assert isinstance(decided, Hold)
    assert sentences(decided.reasons) == [
        f"retention: on gate prompts it is 8.00 nats a token away from the base (limit {SETTINGS.max_gate_kl:g}): hold",
        f"retention: on neutral prompts it is 9.00 nats a token away from the base (limit {SETTINGS.max_neutral_kl:g}): hold",
        "retention: of 12 fixed questions that the base answers rightly it lost 4 (gold, Hamlet, water, bees), and gained 1 "
        "(limit 2 more lost than gained): hold",
    ]


def test_a_report_from_before_retention_was_measured_is_judged_as_it_was() -> None:
    assert "retention" not in good_report()
    assert isinstance(decide(good_report(), SETTINGS, WON, None), Pass)
    assert isinstance(decide(good_report(**retained(gate_kl=None)), SETTINGS, WON, None), Pass)


def test_few_gate_labels_are_said_and_decide_nothing() -> None:
    judged = {"metric": "thumbs", "accuracy": 0.5, "holdout": 3, "few": "3 gate labels (thumbs) are few"}
    for comparisons in (WON, Comparisons(), Comparisons(wins=80, losses=180)):
        plain, few = (
            decide(report, SETTINGS, comparisons, None) for report in (good_report(), good_report(reward_model=judged))
        )
        assert few.name == plain.name
        assert few.reasons[:-1] == plain.reasons
        assert sentences(few.reasons)[-1] == "3 gate labels (thumbs) are few (this decides nothing)"


def test_every_reason_is_listed_those_to_reject_first() -> None:
    report = good_report(probes={"largest_difference": 0.0}, **stats(repetition=0.9, mean_tokens=100.0))
    decided = decide(report, SETTINGS, Comparisons(), None)
    assert [said.split(":")[0] for said in sentences(decided.reasons)] == [
        "no-op",
        "length",
        "repetition",
        "0 blind comparisons of 200 needed",
    ]


def test_a_report_without_samples_holds() -> None:
    none = {"mean_tokens": None, "repetition": None, "language_match": None}
    decided = decide(good_report(sample_stats={"candidate": none, "incumbent": none}), SETTINGS, WON, None)
    assert isinstance(decided, Hold)
    assert "no sampled replies" in sentences(decided.reasons)[0]


def test_a_report_against_another_incumbent_holds() -> None:
    decided = decide(good_report(), SETTINGS, WON, "a" * 64)
    assert isinstance(decided, Hold)
    assert sentences(decided.reasons) == ["the report compares with the bare base, but aaaaaaaaaaaa serves now: hold"]


def test_a_candidate_that_was_rolled_back_is_held_with_how_often() -> None:
    decided = decide(good_report(), SETTINGS, WON, None, rollbacks=2)
    assert isinstance(decided, Hold)
    assert sentences(decided.reasons) == ["it was rolled back before (2 times): hold"]


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_reward_model_never_decides(accuracy: float, calibration: float) -> None:
    judged = {"metric": "pairs", "accuracy": accuracy, "calibration_error": calibration, "holdout": 9}
    assert decide(good_report(reward_model=judged), SETTINGS, WON, None) == decide(good_report(), SETTINGS, WON, None)


@given(counts, counts, counts)
def test_no_number_of_losses_ever_helps(wins: int, ties: int, losses: int) -> None:
    rank = {"reject": 0, "hold": 1, "pass": 2}
    now = decide(good_report(), SETTINGS, Comparisons(wins, ties, losses + 200), None)
    worse = decide(good_report(), SETTINGS, Comparisons(wins, ties, losses + 201), None)
    assert rank[worse.name] <= rank[now.name]


@pytest.mark.parametrize(
    ("wanted", "decision"),
    [
        ({"count": 20, "median_tokens": 26.0}, "pass"),
        ({"count": 19, "median_tokens": 26.0}, "reject"),
        ({"count": 200, "median_tokens": 60.0}, "reject"),
        ({"count": 0, "median_tokens": None}, "reject"),
        (None, "reject"),
    ],
)
def test_replies_as_long_as_those_that_people_wanted_are_not_too_short_beside_a_long_winded_incumbent(
    wanted: Any, decision: str
) -> None:
    report = good_report(**sides({"median_tokens": 22.0, "cut": 4}, {"median_tokens": 66.0, "cut": 13}))
    report["sample_stats"]["wanted"] = wanted
    decided = decide(report, SETTINGS, WON, None)
    assert isinstance(decided, {"pass": Pass, "reject": Reject}[decision])
    assert any(reason.code == "too_short" for reason in decided.reasons) == (decision == "reject")


def test_replies_of_which_most_were_cut_are_not_known_to_be_as_long_as_people_wanted() -> None:
    report = good_report(**sides({"median_tokens": 48.0, "cut": 20}, {"median_tokens": 20.0}))
    report["sample_stats"]["wanted"] = {"count": 50, "median_tokens": 40.0}
    assert isinstance(decide(report, SETTINGS, WON, None), Reject)
