"""Blind comparisons in the control database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from deploy.control.store import Control, open_control
from deploy.rules.comparing import JUDGE, ComparisonLabel
from tests.deploy.pairs import add_candidate, label, pair
from tests.deploy.postgres import fresh


def test_pairs_come_back_in_the_order_of_sampling_with_what_was_said_of_them(control: Control) -> None:
    pairs = [pair(n) for n in (3, 1, 2)]
    assert control.comparisons.add(pairs) == 3
    anna = ComparisonLabel(pairs[1].id, "anna", 1.0, 6, {"first": "candidate"}, "it answers")
    judge = ComparisonLabel(pairs[1].id, JUDGE, 0.7, 5, {"model": "m"})
    assert control.comparisons.label([anna, judge]) == 2
    stored = control.comparisons.of(pairs[0].candidate, pairs[0].incumbent)
    assert [one.comparison for one in stored] == pairs
    assert [one.labels for one in stored] == [(), (judge, anna), ()]
    assert stored[0].number < stored[1].number < stored[2].number


def test_who_was_compared_already_stays_as_he_was_drawn(control: Control) -> None:
    first = pair(1)
    control.comparisons.add([first])
    again = replace(first, people=0, candidate_reply="another")
    assert control.comparisons.add([again, replace(again, turn_id="another turn"), pair(2)]) == 1
    assert [one.comparison for one in control.comparisons.of(first.candidate, None)] == [first, pair(2)]


def test_another_incumbent_is_another_comparison(control: Control) -> None:
    other = replace(pair(1), incumbent="a" * 64)
    assert control.comparisons.add([pair(1), other]) == 2
    assert [one.comparison for one in control.comparisons.of(other.candidate, other.incumbent)] == [other]


def test_nobody_speaks_twice_of_a_pair(control: Control) -> None:
    control.comparisons.add([pair(1)])
    first = ComparisonLabel(pair(1).id, "anna", 1.0, 6, {})
    assert control.comparisons.label([first]) == 1
    assert control.comparisons.label([replace(first, preference=0.0)]) == 0
    assert control.comparisons.of(pair(1).candidate, None)[0].labels == (first,)


def test_the_judge_is_given_what_it_has_not_spoken_of_of_open_candidates_oldest_first(control: Control) -> None:
    closed = {"rejected": "d" * 64, "rolled_back": "e" * 64, "full": "f" * 64}
    add_candidate(control)
    for state, digest in closed.items():
        add_candidate(control, digest, state)
    pairs = [replace(pair(n), sampled_at_us=100 - n) for n in range(5)]
    control.comparisons.add([*pairs, *(replace(pair(9), candidate=digest) for digest in closed.values())])
    control.comparisons.label([label(pairs[1], None, JUDGE), label(pairs[2], 1.0)])
    assert control.comparisons.unjudged(0, 10) == [pairs[0], *pairs[2:]]
    assert control.comparisons.unjudged(97, 10) == [pairs[0], *pairs[2:4]]
    assert control.comparisons.unjudged(0, 2) == [pairs[0], pairs[2]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "promise",
    [
        test_pairs_come_back_in_the_order_of_sampling_with_what_was_said_of_them,
        test_who_was_compared_already_stays_as_he_was_drawn,
        test_nobody_speaks_twice_of_a_pair,
        test_the_judge_is_given_what_it_has_not_spoken_of_of_open_candidates_oldest_first,
    ],
)
def test_on_postgresql_too(postgres: str, promise: Callable[[Control], None]) -> None:
    with fresh(postgres, "comparisons") as url:
        control = open_control(url)
        promise(control)
        control.close()
