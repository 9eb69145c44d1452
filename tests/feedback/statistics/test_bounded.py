"""Bounded outcomes: fair under the null whatever their distribution, and harm is found."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from truescore import first_exclusion

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


@pytest.mark.parametrize(("slower", "at_least", "at_most"), [(2.0, 0.0, 0.05), (3.0, 1.0, 1.0)])
def test_truescores_confidence_sequence_of_the_weighted_difference_finds_what_is_found_here(
    slower: float, at_least: float, at_most: float
) -> None:
    """At 5%, of 200 streams: of latencies alike in both arms next to none, of a slower candidate all, here no later in the middle."""
    random = np.random.default_rng(8)
    arm = (random.random((200, 900)) < 0.5).astype(int)
    y = np.where(arm == 1, random.beta(slower, 3, arm.shape), random.beta(2, 3, arm.shape))
    wealth, at = np.zeros((len(arm), len(BETS))), np.zeros(len(arm), int)
    for number in range(arm.shape[1]):
        wealth = bounded_add(wealth, np.zeros(len(arm), int), arm[:, number], y[:, number], ONE)
        at = np.where((at == 0) & (log_mean_exp(wealth) >= math.log(20)), number + 1, at)
    differences = np.where(arm == 1, 2, -2) * (y - 0.4)
    theirs = [first_exclusion(one, 0, alpha=0.05, direction="above", bounds=(-1.2, 1.2)) for one in differences]
    ours = [int(one) or None for one in at]
    for found in (ours, theirs):
        assert at_least <= sum(number is not None for number in found) / len(arm) <= at_most
    if at_least:
        assert np.median(at) <= np.median(theirs)  # type: ignore[arg-type]
