"""Not worse than a margin: what the literal bets say, fair at the margin itself, and a margin has to be one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.statistics.margin import (
    FRACTIONS,
    RATIOS,
    difference_bounds,
    margin_log_e,
    margin_table,
    relative_margin_log_e,
    relative_margin_table,
)
from feedback.statistics.tallies import Strata
from tests.feedback.statistics import literal
from tests.feedback.statistics.literal import Unit
from tests.feedback.statistics.strategies import rollouts, shares, strata, tally

margins = st.floats(0.005, 0.5)


@given(rollouts(), margins)
def test_counts_say_what_betting_unit_by_unit_says(drawn: tuple[Strata, list[Unit]], delta: float) -> None:
    strata, units = drawn
    p, m, counts = strata.p.tolist(), strata.m.tolist(), tally(strata, units)
    expected = math.log(literal.margin(units, p, m, delta, FRACTIONS))
    assert float(margin_log_e(counts, strata, delta)) == pytest.approx(expected, abs=1e-9)
    expected = math.log(literal.relative_margin(units, p, delta, RATIOS))
    assert float(relative_margin_log_e(counts, strata, delta)) == pytest.approx(expected, abs=1e-9)


@given(strata(), margins, shares, st.floats(0, 1))
def test_no_bet_gains_where_the_candidate_is_worse_by_the_margin(
    drawn: Strata, delta: float, rate: float, beyond: float
) -> None:
    worse = min(1.0, rate * (1 + delta) + beyond)
    assert (_expected(relative_margin_table(drawn, delta), drawn, rate, worse) <= 1 + 1e-12).all() or worse < rate * (
        1 + delta
    )
    worse = rate + delta + beyond
    if worse <= 1:
        assert (_expected(margin_table(drawn, delta), drawn, rate, worse) <= 1 + 1e-12).all()


def _expected(table: np.ndarray, drawn: Strata, incumbent: float, candidate: float) -> np.ndarray:
    rates = np.array([incumbent, candidate])
    chance = np.stack([1 - drawn.p, drawn.p], -1)[..., None] * np.stack([1 - rates, rates], -1)
    return np.asarray((np.exp(table) * chance).sum((-2, -1)))


def test_equal_arms_pass_with_time() -> None:
    drawn = Strata(np.array([0.5]), np.array([0.3]))
    few, many = (np.array([[[7 * n, 3 * n], [7 * n, 3 * n]]]) for n in (10, 1_500))
    assert float(margin_log_e(few, drawn, 0.03)) < math.log(20) <= float(margin_log_e(many, drawn, 0.03))


@pytest.mark.parametrize("delta", [1, -1, float("nan")])
def test_what_is_no_margin_is_refused(delta: float) -> None:
    drawn = Strata(np.array([0.5]), np.array([0.3]))
    with pytest.raises(ValueError, match="margin"):
        margin_table(drawn, delta)
    if delta != 1:
        with pytest.raises(ValueError, match="margin"):
            relative_margin_table(drawn, delta)


def test_the_bounds_of_a_difference_hold_it_and_mirror_each_other() -> None:
    drawn = Strata(np.array([0.5]), np.array([0.3]))
    counts = np.array([[[7_000, 3_000], [6_500, 3_500]]])
    lower, upper = difference_bounds(counts, drawn, 0.05)
    assert 0 < lower < 0.05 < upper < 0.1
    other = difference_bounds(counts[:, ::-1], drawn, 0.05)
    assert other == pytest.approx((-upper, -lower), abs=0.005)
    assert difference_bounds(counts[:, :, ::-1], Strata(drawn.p, 1 - drawn.m), 0.05) == pytest.approx(
        (-upper, -lower), abs=1e-3
    )


def test_nothing_seen_says_nothing() -> None:
    drawn = Strata(np.array([0.5]), np.array([0.3]))
    lower, upper = difference_bounds(np.zeros((1, 2, 2), int), drawn, 0.05)
    assert (lower, upper) == pytest.approx((-1, 1), abs=1e-3)
