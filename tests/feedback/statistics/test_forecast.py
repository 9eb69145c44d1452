"""Forecasts: the traffic that it takes, as simulations have it, and None where no traffic would do."""

import math

import numpy as np
import pytest

from feedback.statistics.forecast import Forecast, Period, days_to_find, passages, units_to_pass
from feedback.statistics.harm import harm_table
from feedback.statistics.margin import margin_table, relative_margin_table
from feedback.statistics.tallies import Strata, log_mean_exp


@pytest.mark.parametrize(
    ("incumbent", "candidate", "share", "simulated"),
    [(0.03, 0.06, 0.5, (2_900, 4_400)), (0.30, 0.40, 0.25, (1_930, 2_970)), (0.05, 0.10, 0.05, (9_400, 15_100))],
)
def test_harm_is_forecast_within_a_sixth_of_what_simulations_took(
    incumbent: float, candidate: float, share: float, simulated: tuple[int, int]
) -> None:
    table = harm_table(Strata(np.array([share]), np.array([incumbent])))[:, 0]
    hundreds = [Period(100, share, table)] * 200
    found = passages(hundreds, candidate, incumbent, math.log(100))
    for power, units in zip((0.8, 0.95), simulated, strict=True):
        assert np.quantile(found, power, method="higher") == pytest.approx(units, rel=1 / 6)


def test_a_margin_that_the_candidate_exceeds_is_never_passed() -> None:
    table = margin_table(Strata(np.array([0.5]), np.array([0.3])), 0.03)[:, 0]
    assert units_to_pass(table, 0.5, 0.34, 0.30, math.log(20)) is None
    assert units_to_pass(table, 0.5, 0.30, 0.30, math.log(20)) is not None


def test_of_ten_streams_of_units_as_many_pass_within_each_part_of_a_forecast_as_it_says() -> None:
    """Unit by unit, of a rare outcome whose margin is passed by some twenty of them: a range that is ten times as wide at its end."""
    random = np.random.default_rng(3)
    table = relative_margin_table(Strata(np.array([0.5]), np.array([0.06])), 2.0)[:, 0]
    forecast = units_to_pass(table, 0.5, 0.06, 0.06, math.log(25))
    assert forecast is not None
    cell = 2 * (random.random((400, 4_000)) < 0.5) + (random.random((400, 4_000)) < 0.06)
    passed = log_mean_exp(table.reshape(-1, 4).T[cell].cumsum(1)) >= math.log(25)
    units = np.where(passed.any(1), passed.argmax(1) + 1, 4_000)
    for said, part in ((forecast.low, 0.1), (forecast.middle, 0.5), (forecast.high, 0.9)):
        assert (units <= said).mean() == pytest.approx(part, abs=0.1)
    assert forecast.middle == pytest.approx(np.median(units), rel=0.2)


def test_what_is_won_already_and_a_rate_that_is_hardly_known_are_in_the_forecast() -> None:
    table = relative_margin_table(Strata(np.array([0.5]), np.array([0.06])), 2.0)[:, 0]
    known, won, vague = (
        units_to_pass(table, 0.5, 0.06, 0.06, math.log(25), wealth, worth)
        for wealth, worth in ((0.0, None), (2.0, None), (0.0, 20))
    )
    assert isinstance(known, Forecast)
    assert won is not None
    assert vague is not None
    assert won.middle < known.middle / 2
    assert vague.low < known.low
    assert vague.high > known.high


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
