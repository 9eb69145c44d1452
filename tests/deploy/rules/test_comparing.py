"""Values of blind comparisons."""

from __future__ import annotations

import doctest
from dataclasses import replace

import numpy as np
import pytest

from deploy.rules import comparing
from deploy.rules.comparing import people_asked, probability_of_people
from deploy.settings import CompareSettings
from tests.deploy.pairs import pair


def test_a_pair_is_named_by_who_is_compared_on_which_turn_and_by_nothing_that_was_said() -> None:
    one = pair(1)
    assert replace(one, candidate_reply="x", people=0, locale=None, sampled_at_us=0).id == one.id
    changed = {"incumbent": "i", "candidate": "d", "tenant": "x", "conversation_id": "x", "turn_id": "x"}
    assert len({replace(one, **{name: value}).id for name, value in changed.items()} | {one.id}) == 6


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(comparing).failed == 0


def test_without_a_judge_people_are_asked_about_every_pair_and_a_setting_overrides_it() -> None:
    assert probability_of_people(CompareSettings(), judged=False) == 1.0
    assert probability_of_people(CompareSettings(people=0.3), judged=True) == 0.3


def test_replies_that_say_the_same_are_identical_whatever_their_spaces() -> None:
    same = replace(pair(1), candidate_reply="It is  here.", incumbent_reply="It is here.\n")
    assert same.identical
    assert not replace(same, incumbent_reply="It is there.").identical


def test_people_are_asked_with_the_probability_that_is_stored() -> None:
    draws = np.random.default_rng(1).random((20_000, 2))
    asked = np.array([people_asked(0.2, 0.25, (float(a), float(b))) for a, b in draws])
    assert (asked > 0).mean() == pytest.approx(0.2, abs=0.02)
    assert (asked == 2).sum() / (asked > 0).sum() == pytest.approx(0.25, abs=0.03)
