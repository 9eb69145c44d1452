"""Evidence of harm: what the literal bets say, never more than fair under the null, and found when it is there."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.statistics import harm
from feedback.statistics.harm import SHIFTS, harm_log_e, harm_table, late_harm_log_e
from feedback.statistics.tallies import Strata
from tests.feedback.statistics import literal
from tests.feedback.statistics.literal import Unit
from tests.feedback.statistics.strategies import rollouts, shares, strata, tally


def test_the_example_in_the_docstring_holds() -> None:
    result = doctest.testmod(harm)
    assert (result.attempted, result.failed) == (1, 0)


@given(rollouts())
def test_counts_say_what_betting_unit_by_unit_says(drawn: tuple[Strata, list[Unit]]) -> None:
    strata, units = drawn
    p, m = strata.p.tolist(), strata.m.tolist()
    counts = tally(strata, units)
    assert float(harm_log_e(counts, strata, SHIFTS)) == pytest.approx(
        math.log(literal.harm(units, p, m, SHIFTS)), abs=1e-9
    )
    assert float(late_harm_log_e(counts, strata)) == pytest.approx(
        math.log(literal.late_harm(units, p, m, SHIFTS, strata.stages.tolist())), abs=1e-9
    )


@given(strata(), shares, shares)
def test_no_bet_gains_where_the_candidate_is_not_worse(drawn: Strata, one: float, other: float) -> None:
    better, worse = sorted((one, other))
    rates = np.array([worse, better])  # incumbent, candidate
    chance = np.stack([1 - drawn.p, drawn.p], -1)[..., None] * np.stack([1 - rates, rates], -1)
    assert ((np.exp(harm_table(drawn)) * chance).sum((-2, -1)) <= 1 + 1e-12).all()


def test_many_tallies_are_looked_at_at_once() -> None:
    drawn = Strata(np.array([0.05, 0.5]), np.full((3, 2), 0.3))
    counts = np.arange(24).reshape(3, 2, 2, 2)
    for log_e in (harm_log_e, late_harm_log_e):
        each = [float(log_e(one, Strata(drawn.p, drawn.m[0]))) for one in counts]
        assert log_e(counts, drawn).tolist() == pytest.approx(each)


def test_harm_that_begins_late_is_found_sooner_by_starting_anew() -> None:
    drawn = Strata(np.array([0.25, 0.5]), np.array([0.3, 0.3]))
    good_days = [[4_200, 1_800], [1_700, 300]]  # the candidate is better by far, at first
    bad_days = [[700, 300], [600, 400]]
    counts = np.array([good_days, bad_days])
    assert float(harm_log_e(counts, drawn)) < 0
    assert float(late_harm_log_e(counts, drawn)) > math.log(100)


@given(st.integers(1, 12))
def test_what_starts_anew_never_spends_more_than_there_is(stages: int) -> None:
    weights = harm.restart_weights(stages)
    assert weights[0] == 0.5
    assert weights.sum() < 1
