"""Bounded outcomes: fair under the null whatever their distribution, and harm is found."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.statistics.bounded import BETS, bounded_add
from feedback.statistics.tallies import Strata, log_mean_exp
from tests.feedback.statistics.strategies import shares

ONE = Strata(np.array([0.5]), np.array([0.4]))


@given(shares, shares, st.floats(0, 1), st.floats(0, 1))
def test_no_bet_gains_where_both_arms_are_alike(share: float, rate: float, low: float, high: float) -> None:
    strata, fair = Strata(np.array([share]), np.array([rate])), np.zeros(len(BETS))
    for arm, chance in ((0, 1 - share), (1, share)):
        for y in (low, high):
            fair += chance / 2 * np.exp(bounded_add(np.zeros(len(BETS)), 0, arm, y, strata))
    assert fair == pytest.approx(1)


def test_a_candidate_that_is_slower_is_found() -> None:
    wealth, random = np.zeros(len(BETS)), np.random.default_rng(7)
    for number in range(2_000):
        arm = number % 2
        wealth = bounded_add(wealth, 0, arm, random.beta(3 if arm else 2, 3), ONE)
    assert float(log_mean_exp(wealth)) > math.log(100)


def test_many_tallies_take_a_unit_each() -> None:
    wealth = bounded_add(np.zeros((2, len(BETS))), [0, 0], [0, 1], [0.2, 0.9], ONE)
    assert wealth[1].tolist() == bounded_add(np.zeros(len(BETS)), 0, 1, 0.9, ONE).tolist()


@pytest.mark.parametrize("y", [-0.1, 1.1, float("nan")])
def test_an_outcome_beyond_its_bounds_is_refused(y: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        bounded_add(np.zeros(len(BETS)), 0, 1, y, ONE)
