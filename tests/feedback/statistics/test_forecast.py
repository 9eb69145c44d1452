"""Forecasts: the traffic that it takes, as simulations have it, and None where no traffic would do."""

import math

import numpy as np
import pytest

from feedback.statistics.forecast import days_to_find, units_to_pass
from feedback.statistics.harm import harm_table
from feedback.statistics.margin import margin_table
from feedback.statistics.tallies import Strata


@pytest.mark.parametrize(
    ("incumbent", "candidate", "share", "simulated"),
    [(0.03, 0.06, 0.5, (2_900, 4_400)), (0.30, 0.40, 0.25, (1_930, 2_970)), (0.05, 0.10, 0.05, (9_400, 15_100))],
)
def test_harm_is_forecast_within_a_sixth_of_what_simulations_took(
    incumbent: float, candidate: float, share: float, simulated: tuple[int, int]
) -> None:
    table = harm_table(Strata(np.array([share]), np.array([incumbent])))[:, 0]
    for power, units in zip((0.8, 0.95), simulated, strict=True):
        forecast = units_to_pass(table, share, candidate, incumbent, math.log(100), power)
        assert forecast == pytest.approx(units, rel=1 / 6)


def test_a_margin_that_the_candidate_exceeds_is_never_passed() -> None:
    table = margin_table(Strata(np.array([0.5]), np.array([0.3])), 0.03)[:, 0]
    assert units_to_pass(table, 0.5, 0.34, 0.30, math.log(20)) is None
    assert units_to_pass(table, 0.5, 0.30, 0.30, math.log(20)) is not None


@pytest.mark.parametrize(
    ("incumbent", "candidate", "simulated"), [(0.30, 0.40, 5), (0.30, 0.35, 9), (0.03, 0.06, 7), (0.02, 0.04, 9)]
)
def test_the_day_of_a_rollback_is_forecast_as_simulations_had_it(
    incumbent: float, candidate: float, simulated: int
) -> None:
    """At 2,000 new users a day, 5% for four days, 25% for four, then a half: the days whose users were needed, of 95%."""
    days = [0.05] * 4 + [0.25] * 4 + [0.5] * 12
    assert days_to_find(days, 2_000, candidate, incumbent, math.log(100), 0.95) == pytest.approx(simulated, abs=1)


def test_harm_that_is_too_small_for_the_traffic_is_not_found() -> None:
    assert days_to_find([0.05] * 4 + [0.5] * 28, 50, 0.11, 0.10, math.log(100), 0.8) is None
    assert days_to_find([0.5] * 28, 2_000, 0.10, 0.10, math.log(100), 0.8) is None
