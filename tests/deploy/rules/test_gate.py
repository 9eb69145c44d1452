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
