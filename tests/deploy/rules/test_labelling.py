"""What is shown of a pair, in which order, and what an answer says of the candidate."""

from __future__ import annotations

import doctest
import random
from collections import Counter
from typing import get_args

from deploy.rules import labelling
from deploy.rules.labelling import Answer, Progress, Side, agreement, preference, question, side_first, told
from tests.deploy.pairs import CANDIDATE, pair


def test_each_side_comes_first_as_often_as_the_other_for_every_person() -> None:
    for seed in range(50):
        draws, shown = random.Random(seed), Counter[Side]()
        for _ in range(200):
            shown[side_first(shown, draws.random())] += 1
            assert abs(shown["candidate"] - shown["incumbent"]) <= 20


def test_whichever_came_first_before_both_may_come_next() -> None:
    for shown in ({}, {"candidate": 9}, {"incumbent": 9}):
        sides = {side_first(shown, draw / 100) for draw in range(100)}  # type: ignore[arg-type]
        assert sides == {"candidate", "incumbent"}


def test_over_many_people_the_order_tells_nothing_of_the_side() -> None:
    draws, first = random.Random(1), Counter[tuple[int, Side]]()
    for _ in range(4_000):
        shown = Counter[Side]()
        for place in range(4):
            side = side_first(shown, draws.random())
            shown[side] += 1
            first[place, side] += 1
    for place in range(4):
        assert abs(first[place, "candidate"] - 2_000) < 130  # four standard deviations


def test_the_same_reply_is_preferred_in_whichever_order_it_was_shown() -> None:
    one = pair(1)
    for side in get_args(Side):
        shown = question(one, side)
        better: Answer = "first" if shown.first == one.candidate_reply else "second"
        worse: Answer = "second" if better == "first" else "first"
        assert [preference(answer, side) for answer in (better, worse, "tie", "skip")] == [1.0, 0.0, 0.5, None]


def test_nothing_that_is_told_tells_which_reply_is_the_candidates() -> None:
    one, progress = pair(1), Progress(0, 0, 1, 1, agreement([]), agreement([]))
    either = [told(question(one, side), progress) for side in get_args(Side)]
    assert either[0]["pair"].keys() == {"id", "locale", "prompt", "first", "second"}
    swapped = either[1]["pair"] | {"first": either[1]["pair"]["second"], "second": either[1]["pair"]["first"]}
    assert swapped == either[0]["pair"]
    without_replies = {name: value for name, value in either[0]["pair"].items() if name not in ("first", "second")}
    assert CANDIDATE not in str(without_replies)


def test_a_weak_verdict_agrees_with_a_clear_one_on_the_same_side() -> None:
    assert agreement([(1.0, 0.51), (0.0, 0.49), (0.5, 0.51), (1.0, None), (None, None)]).agreed == 2


def test_the_examples_are_true() -> None:
    assert doctest.testmod(labelling).failed == 0
