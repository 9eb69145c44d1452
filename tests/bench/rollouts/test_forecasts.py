"""Forecasts come true, through the service's own decisions: of whole simulated rollouts, half-way and beforehand."""

from __future__ import annotations

from dataclasses import replace

from bench.rollouts.forecasts import FORECASTS, Forecasting, forecasts

MANY = 24


def test_what_came_lies_in_the_range_that_was_said_half_way_and_on_about_the_day_that_was_said_beforehand() -> None:
    one = FORECASTS[1]
    came = forecasts(Forecasting(one.name, replace(one.world, days=40), one.plan), MANY, 0)
    assert len(came) >= 18
    assert sum(of.within_range for of in came) >= 0.7 * len(came)
    assert sum(of.within_twice for of in came) >= 0.8 * len(came)
    assert sum(of.day_within_twice for of in came) >= 0.8 * len(came)
