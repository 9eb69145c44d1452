"""Blind comparisons in the control database, on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

from deploy.control.store import Control
from deploy.rules.comparing import JUDGE, ComparisonLabel
from tests.deploy.pairs import CANDIDATE, PATIENCE_US, add_candidate, label, labelled_as, pair, stored


def test_pairs_come_back_in_the_order_of_sampling_with_what_was_said_of_them(any_control: Control) -> None:
    pairs = [pair(n) for n in (3, 1, 2)]
    assert any_control.comparisons.add(pairs) == 3
    anna = ComparisonLabel(pairs[1].id, "anna", 1.0, 6, {"first": "candidate"}, "it answers")
    judge = ComparisonLabel(pairs[1].id, JUDGE, 0.7, 5, {"model": "m"})
    assert any_control.comparisons.label([anna, judge]) == 2
    assert stored(any_control) == pairs
    said = [(), (judge, anna), ()]
    assert any_control.comparisons.of(CANDIDATE, None) == [labelled_as(*one) for one in zip(pairs, said, strict=True)]


def test_of_a_pair_it_is_kept_whether_both_replies_are_the_same_to_a_person(any_control: Control) -> None:
    same = replace(pair(1), candidate_reply="Good  day!", incumbent_reply="Good day! ")
    any_control.comparisons.add([same, pair(2)])
    assert [one.identical for one in any_control.comparisons.of(CANDIDATE, None)] == [True, False]


def test_who_was_compared_already_stays_as_he_was_drawn(any_control: Control) -> None:
    first = pair(1)
    any_control.comparisons.add([first])
    again = replace(first, people=0, candidate_reply="another")
    assert any_control.comparisons.add([again, replace(again, turn_id="another turn"), pair(2)]) == 1
    assert stored(any_control) == [first, pair(2)]


def test_another_incumbent_is_another_comparison(any_control: Control) -> None:
    other = replace(pair(1), incumbent="a" * 64)
    assert any_control.comparisons.add([pair(1), other]) == 2
    assert stored(any_control, incumbent=other.incumbent) == [other]


def test_nobody_speaks_twice_of_a_pair(any_control: Control) -> None:
    any_control.comparisons.add([pair(1)])
    first = ComparisonLabel(pair(1).id, "anna", 1.0, 6, {})
    assert any_control.comparisons.label([first]) == 1
    assert any_control.comparisons.label([replace(first, preference=0.0)]) == 0
    assert any_control.comparisons.of(pair(1).candidate, None)[0].labels == (first,)


def test_the_judge_is_given_what_it_has_not_spoken_of_of_open_candidates_oldest_first(any_control: Control) -> None:
    closed = {"rejected": "d" * 64, "rolled_back": "e" * 64, "full": "f" * 64}
    add_candidate(any_control)
    for state, digest in closed.items():
        add_candidate(any_control, digest, state)
    pairs = [pair(n, at_us=100 - n) for n in range(5)]
    any_control.comparisons.add([*pairs, *(replace(pair(9), candidate=digest) for digest in closed.values())])
    any_control.comparisons.label([label(pairs[1], None, JUDGE), label(pairs[2], 1.0)])
    assert any_control.comparisons.unjudged(0, 10) == [pairs[0], *pairs[2:]]
    assert any_control.comparisons.unjudged(97 + PATIENCE_US, 10) == [pairs[0], *pairs[2:4]]
    assert any_control.comparisons.unjudged(0, 2) == [pairs[0], pairs[2]]
