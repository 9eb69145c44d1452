"""Pairs are counted in the order of sampling, and only what was said in time counts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.rules.comparing import JUDGE, Comparison, Labelled
from deploy.rules.weighing import ALPHA, FARTHEST, Comparisons, weigh
from feedback.statistics.plan import log_promotion
from feedback.statistics.shadow import BETS, WEIGHTS
from tests.deploy.pairs import PATIENCE_US, compared, label, labelled, labelled_as, pair
from tests.feedback.statistics import literal

said = st.sampled_from([0.0, 0.5, 1.0, None])


def seen(pairs: list[Labelled], judged: bool = False, now_us: int = 1, **more: Any) -> Comparisons:
    return weigh(pairs, judged, now_us, **more)


def numbered(*pairs: tuple[Comparison, list[Any]]) -> list[Labelled]:
    return [labelled_as(one, labels) for one, labels in pairs]


@given(st.lists(st.tuples(st.none() | st.floats(0, 1), said, st.booleans()), max_size=12), st.floats(0.05, 1))
@hypothesis.settings(max_examples=40)
def test_evidence_is_what_betting_pair_by_pair_says_either_way(drawn: list[Any], pi: float) -> None:
    pairs = [
        (
            one := replace(pair(n), people=int(asked), probability=pi),
            [label(one, f, JUDGE)] + [label(one, h)] * asked,
        )
        for n, (f, h, asked) in enumerate(drawn)
    ]
    found = seen(numbered(*pairs), judged=True)
    half = [(0.5 if f is None else f, 0.5 if h is None else h, int(asked)) for f, h, asked in drawn]
    for log_e, told in ((found.log_e, half), (found.log_e_loses, [(1 - f, 1 - h, xi) for f, h, xi in half])):
        assert log_e == pytest.approx(math.log(literal.shadow(told, pi, WEIGHTS, BETS)), abs=1e-9)
    assert found.counted == found.pairs == len(drawn)


def test_counting_stops_at_the_first_pair_of_which_somebody_still_has_to_speak() -> None:
    pairs = labelled([1.0, 1.0, 1.0, 1.0])
    waiting = [*pairs[:1], replace(pairs[1], labels=()), *pairs[2:]]
    found = seen(waiting)
    assert (found.pairs, found.counted, found.wins, found.wait_people) == (4, 1, 1, 1)
    assert found.log_e == seen(pairs[:1]).log_e


def test_the_judge_is_waited_for_where_there_is_one() -> None:
    pairs = labelled([1.0, 0.0])
    assert (seen(pairs).counted, seen(pairs).wait_judge) == (2, 0)
    assert (seen(pairs, judged=True).counted, seen(pairs, judged=True).wait_judge) == (0, 2)


def test_what_is_missing_when_its_time_is_over_is_a_tie_and_what_comes_later_counts_nowhere() -> None:
    one = replace(pair(0), people=1)
    silent = numbered((one, []))
    assert seen(silent, now_us=PATIENCE_US).counted == 0
    over = seen(silent, judged=True, now_us=PATIENCE_US + 1)
    assert (over.counted, over.ties, over.log_e) == (1, 1, 0.0)
    late = [label(one, 1.0, at_us=PATIENCE_US + 1), label(one, 1.0, JUDGE, PATIENCE_US + 1)]
    assert seen(numbered((one, late)), judged=True, now_us=PATIENCE_US + 1) == over


def test_a_skip_is_a_tie_and_so_is_a_judge_without_a_verdict() -> None:
    assert seen(labelled([None], [None]), judged=True) == seen(labelled([0.5], [0.5]), judged=True)


def test_of_a_pair_for_two_people_the_mean_counts_once_both_have_spoken() -> None:
    one = pair(0, people=2)
    anna, bob = label(one, 1.0), label(one, 0.5, "bob")
    waiting = seen(numbered((one, [anna]), (pair(1, people=2), [])))
    assert (waiting.counted, waiting.wait_people, waiting.wait_second) == (0, 2, 1)
    both, third = seen(numbered((one, [anna, bob]))), label(one, 0.0, "eve")
    assert (both.counted, both.wins) == (1, 1)
    assert 0 < both.log_e < seen(labelled([1.0])).log_e
    assert seen(numbered((one, [anna, bob, third]))) == both
    assert seen(numbered((one, [anna])), now_us=PATIENCE_US + 1).wins == 1


def test_identical_replies_are_a_tie_that_nobody_is_asked_about_and_no_bet_is_made_on_them() -> None:
    same = replace(pair(9), candidate_reply="It is  here.", incumbent_reply="It is here.\n", people=0)
    pairs = labelled([1.0, 0.0, 1.0], [0.1, 0.2, 0.3])
    with_it = [pairs[0], labelled_as(same), *pairs[1:]]
    found, without = seen(with_it, judged=True), seen(pairs, judged=True)
    assert (found.identical, found.counted, found.wait_judge) == (1, 4, 0)
    assert (found.log_e, found.log_e_loses) == (without.log_e, without.log_e_loses)


def test_how_often_the_judge_decides_as_people_do_is_told() -> None:
    found = seen(labelled([1.0, 0.0, 1.0, 0.5, 1.0], [0.9, 0.8, 0.7, 0.9, 0.5]), judged=True)
    assert (found.agreed, found.agreed_of) == (2, 3)


def test_every_attempt_takes_more_evidence() -> None:
    thresholds = [seen(labelled([1.0]), attempt=attempt).log_threshold for attempt in (1, 2, 3)]
    assert thresholds == [log_promotion(ALPHA, attempt) for attempt in (1, 2, 3)]
    assert thresholds == sorted(thresholds)
    assert sum(math.exp(-log_promotion(ALPHA, attempt)) for attempt in range(1, 60)) == pytest.approx(ALPHA)


def test_too_few_pairs_and_a_candidate_that_is_no_better_are_forecast_nothing() -> None:
    assert compared(9, 1).missing is None
    assert compared(100, 100).missing is None
    assert compared(200, 199).missing is None
    assert compared(100, 40).missing == 0


def test_a_forecast_comes_true_when_pairs_go_on_as_they_were() -> None:
    first = compared(56, 44)
    assert first.missing is not None
    factor = 1 + first.missing / 100
    after = compared(round(56 * factor), round(44 * factor))
    assert after.log_e == pytest.approx(after.log_threshold, rel=0.1)
    assert FARTHEST > first.missing > 100


def test_of_candidates_that_people_do_not_prefer_few_pass_whatever_the_judge_says() -> None:
    """Looked at again and again, with a judge who always likes the candidate."""
    random, passed = np.random.default_rng(5), 0
    for _ in range(60):
        asked = (random.random(120) < 0.3).tolist()
        pairs = []
        for n in range(120):
            one = replace(pair(n), people=int(asked[n]), probability=0.3)
            pairs.append((one, [label(one, 1.0, JUDGE)] + [label(one, float(random.integers(0, 2)))] * asked[n]))
        looks = (seen(numbered(*pairs[:until]), judged=True) for until in (30, 60, 90, 120))
        passed += any(look.log_e >= look.log_threshold for look in looks)
    assert passed <= 4
