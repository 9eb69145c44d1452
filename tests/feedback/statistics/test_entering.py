"""Entering again: with the probability that a unit's fixed place leaves it."""

import doctest

import numpy as np
import pytest

from feedback.statistics import entering
from feedback.statistics.entering import entry_share


def test_the_example_in_the_docstring_holds() -> None:
    result = doctest.testmod(entering)
    assert (result.attempted, result.failed) == (1, 0)


def test_of_former_incumbents_that_part_stands_below_the_new_share() -> None:
    place = np.random.default_rng(5).random(200_000)
    former = place[place >= 0.05]
    assert (former < 0.25).mean() == pytest.approx(entry_share(0.25, 0.05), abs=0.005)


def test_who_is_new_is_drawn_with_the_share_and_nobody_enters_at_a_share_already_seen() -> None:
    assert entry_share(0.25, None) == 0.25
    assert entry_share(0.25, 0.25) == 0
    assert entry_share(0.05, 0.25) == 0
