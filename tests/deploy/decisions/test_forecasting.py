"""Forecasts from traffic: who came and what became of them, and what a rollout could find with so many."""

from __future__ import annotations

import pytest

from deploy.decisions.forecasting import Traffic, forecast, schedule, traffic
from deploy.rules.plan import EXPECTED, plan_of
from deploy.settings import RolloutSettings
from tests.deploy.decisions.people import thumbs, turn_of

DAY = 86_400_000_000
START = 1_800_000_000_000_000
PLAN = plan_of(RolloutSettings(), 1)
assert PLAN is not None


def test_users_are_counted_once_and_their_outcomes_by_window() -> None:
    turns = [turn_of(f"u{n}", START + n * 60_000_000, outcome="error" if n % 4 == 0 else "ok") for n in range(200)]
    again = [turn_of(f"u{n}", START + DAY + n, f"c-again-{n}") for n in range(50)]
    disliked = [thumbs(turn, False, turn.occurred_at_us + 1) for turn in turns[:20]]
    events = [(event.occurred_at_us, event) for event in [*turns, *again, *disliked]]
    seen = traffic(lambda: events, 3 * DAY, START + 10 * DAY)
    assert (seen.users, seen.days, seen.per_day, seen.assumed) == (200, 10.0, 20.0, False)
    assert seen.rates["errors"] == pytest.approx(50.5 / 201)
    assert seen.rates["dislikes"] == pytest.approx(20.5 / 201)


def test_where_next_to_nobody_came_rates_are_those_to_begin_with() -> None:
    few = [(START, turn_of("u", START, outcome="error"))]
    for seen in (traffic(list, 3 * DAY, START), traffic(lambda: few, 3 * DAY, START + 10 * DAY)):
        assert (seen.rates, seen.assumed) == (EXPECTED, True)


def test_more_harm_and_more_traffic_are_found_sooner_and_small_harm_never_by_few() -> None:
    assert PLAN is not None
    rates = {"errors": 0.02, "dislikes": 0.30}
    many, few = (forecast(PLAN, Traffic(1.0, users, rates)) for users in (2_000, 20))
    for row in many:
        days = [found["day_95%"] for found in row["found"] if found["day_95%"] is not None]
        assert days == sorted(days, reverse=True)
        assert all(found["day_80%"] <= found["day_95%"] for found in row["found"] if found["day_95%"] is not None)
    assert [row["metric"] for row in many] == ["errors", "dislikes"]
    assert many[0]["found"][2]["becomes"] == 0.04
    assert few[0]["found"][0] == {"becomes": pytest.approx(0.025), "day_80%": None, "day_95%": None}
    nobody = forecast(PLAN, Traffic(0.0, 0, rates))
    assert few[1]["equal_passes"] == nobody[0]["equal_passes"] == {"day_50%": None, "day_80%": None}
    assert 8 < many[0]["equal_passes"]["day_50%"] <= many[0]["equal_passes"]["day_80%"]


def test_each_stage_lasts_its_minimum_and_the_one_of_the_evidence_goes_on() -> None:
    assert PLAN is not None
    days = list(schedule(PLAN))
    assert days[:9] == [0.05] * 4 + [0.25] * 4 + [0.5]
    assert set(days[8:]) == {0.5}
