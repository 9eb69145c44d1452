"""The gate decides by the blind win rate, and says every reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.rules.gate import Hold, Pass, Reject, decide
from deploy.rules.reasons import Reason, sentences
from deploy.rules.weighing import Comparisons, weigh
from deploy.settings import GateSettings
from tests.deploy.candidates import good_report
from tests.deploy.pairs import compared, labelled

SETTINGS = GateSettings()
WON = compared(180, 80)
counts = st.integers(0, 40)


def stats(**changes: Any) -> dict[str, Any]:
    good = {"mean_tokens": 20.0, "repetition": 0.05, "language_match": 0.9}
    return {"sample_stats": {"candidate": good | changes, "incumbent": good}}


def test_a_clear_win_passes_with_its_figures() -> None:
    decided = decide(good_report(), SETTINGS, WON, None)
    assert decided == Pass((Reason("wins", WON.figures),))
    assert sentences(decided.reasons) == [
        "blind comparisons: win rate 0.69 by people on 260, 260 of 260 pairs count, E 3.13e+07 of 25 that it takes"
    ]


def test_where_nothing_was_compared_the_hold_says_how_to_come_by_comparisons() -> None:
    decided = decide(good_report(), SETTINGS, Comparisons(), None)
    assert isinstance(decided, Hold)
    assert sentences(decided.reasons) == [
        "blind comparisons: none yet (a training compares it on prompts of the gate split, and shadowing on live ones): hold"
    ]


def test_a_win_rate_that_may_be_chance_holds_and_says_what_would_do() -> None:
    decided = decide(good_report(), SETTINGS, compared(218, 170), None)
    assert isinstance(decided, Hold)
    assert sentences(decided.reasons) == [
        "blind comparisons: win rate 0.56 by people on 388, 388 of 388 pairs count, E 5.37 of 25 that it takes, "
        "about 248 more pairs like these would do: hold"
    ]


def test_a_clear_loss_is_rejected() -> None:
    decided = decide(good_report(), SETTINGS, compared(80, 180), None)
    assert isinstance(decided, Reject)
    assert "win rate 0.31" in sentences(decided.reasons)[0]
    assert "E that people prefer the incumbent 3.13e+07" in sentences(decided.reasons)[0]


def test_evidence_that_passes_the_first_time_may_be_too_little_for_another_attempt() -> None:
    pairs = labelled([1.0] * 60 + [0.0] * 30)
    first, third = (weigh(pairs, False, 1, attempt) for attempt in (1, 3))
    assert decide(good_report(), SETTINGS, first, None).name == "pass"
    assert decide(good_report(), SETTINGS, third, None).name == "hold"


def test_a_label_that_gates_and_trained_is_refused_by_name_whatever_was_won() -> None:
    decided = decide(good_report(), SETTINGS, replace(WON, leaked=("t/c-1/1", "t/c-2/1")), None)
    assert isinstance(decided, Reject)
    assert sentences(decided.reasons) == [
        "leaked labels: it was trained on 2 of the turns that people or the judge compared (t/c-1/1, t/c-2/1)"
    ]


def test_a_candidate_of_which_nobody_knows_what_it_learned_is_held() -> None:
    decided = decide(good_report(), SETTINGS, replace(WON, lineage_unknown="the snapshot is gone"), None)
    assert isinstance(decided, Hold)
    assert sentences(decided.reasons) == [
        "nobody can say on which turns it was trained, so labels may have leaked: the snapshot is gone: hold"
    ]


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
        ({"mean_tokens": 45.0, "median_tokens": 22.0, "cut": 4}, {"cut": 2}, "pass", "blind comparisons"),
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
    for comparisons in (WON, Comparisons(), compared(80, 180)):
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
        "blind comparisons",
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
    now = decide(good_report(), SETTINGS, compared(wins, losses, ties), None)
    worse = decide(good_report(), SETTINGS, compared(wins, losses + 1, ties), None)
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
