"""The sample ratio: a fair coin with the stratum's share, by count as by unit, and a lost hundredth is found."""

import math

import numpy as np
import pytest
from hypothesis import given

from feedback.statistics.sample_ratio import (
    LATE_SLACK,
    TILTS,
    late_ratio_table,
    sample_ratio,
    sample_ratio_log_e,
    sample_ratio_table,
)
from feedback.statistics.tallies import Strata
from tests.feedback.statistics import literal
from tests.feedback.statistics.literal import Unit
from tests.feedback.statistics.strategies import rollouts, strata, tally


@given(rollouts())
def test_counts_say_what_betting_unit_by_unit_says(drawn: tuple[Strata, list[Unit]]) -> None:
    strata, units = drawn
    expected = math.log(literal.sample_ratio([unit[:2] for unit in units], strata.p.tolist(), TILTS))
    assert float(sample_ratio_log_e(tally(strata, units).sum(-1), strata)) == pytest.approx(expected, abs=1e-9)


@given(strata())
def test_every_bet_is_fair_where_the_arms_are_drawn_as_they_should(drawn: Strata) -> None:
    chance = np.stack([1 - drawn.p, drawn.p], -1)
    assert (np.exp(sample_ratio_table(drawn)) * chance).sum(-1) == pytest.approx(1)


def test_an_arm_that_loses_a_tenth_of_its_units_is_found() -> None:
    drawn = Strata(np.array([0.5]), np.array([0.3]))
    assert float(sample_ratio_log_e(np.array([[10_000, 9_000]]), drawn)) > math.log(2_000)
    assert float(sample_ratio_log_e(np.array([[10_000, 9_950]]), drawn)) < 0


def test_the_evidence_stands_beside_what_came_what_was_to_be_expected_and_what_is_needed() -> None:
    drawn = Strata(np.array([0.05, 0.5]), np.array([0.3, 0.3]))
    kept, lost = np.array([[950, 50], [500, 500]]), np.array([[950, 50], [500, 300]])
    alike, found = (sample_ratio("closed", units, drawn, 0.0005) for units in (kept, lost))
    assert (alike.counted, alike.candidate, alike.of, alike.expected) == ("closed", 550, 2_000, pytest.approx(550))
    assert (found.candidate, found.of, found.expected) == (350, 1_800, pytest.approx(450))
    assert found.log_e == float(sample_ratio_log_e(lost, drawn))
    assert found.log_needed == alike.log_needed == math.log(2_000)
    assert (alike.mismatch, found.mismatch) == (False, True)


def test_a_mismatch_begins_exactly_where_the_evidence_is_what_is_needed() -> None:
    drawn, units = Strata(np.array([0.5]), np.array([0.3])), np.array([[500, 400]])
    alpha = math.exp(-float(sample_ratio_log_e(units, drawn)))
    assert not sample_ratio("assigned", units, drawn, alpha * 0.999).mismatch
    assert sample_ratio("assigned", units, drawn, alpha * 1.001).mismatch


@given(strata())
def test_no_bet_on_late_news_wins_while_the_odds_are_within_twice_or_half_of_the_draw(drawn: Strata) -> None:
    factors = np.exp(late_ratio_table(drawn))
    for tilt in np.linspace(-LATE_SLACK, LATE_SLACK, 9):
        odds = np.exp(tilt) * drawn.p / (1 - drawn.p)
        chance = np.stack([1 / (1 + odds), odds / (1 + odds)], -1)
        assert (factors * chance).sum(-1).max() <= 1 + 1e-9


def test_an_arm_whose_users_have_little_to_tell_has_fewer_late_news_and_holds_nothing() -> None:
    drawn = Strata(np.array([0.5]), np.array([0.3]))
    fewer, hidden = np.array([[4_000, 2_200]]), np.array([[4_000, 400]])
    assert not sample_ratio("late", fewer, drawn, 0.0005).mismatch
    assert sample_ratio("closed", fewer, drawn, 0.0005).mismatch
    assert sample_ratio("late", hidden, drawn, 0.0005).mismatch
    assert sample_ratio("late", hidden[:, ::-1], drawn, 0.0005).mismatch
