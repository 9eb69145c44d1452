"""Candidates of which nothing is known at first: a neutral one goes on when it was forecast, one that this traffic can't decide is held.

Through the real gateway as in `test_end_to_end`, and by more seeds of people over the control database and facts alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.arms_view import verdict_lines
from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.decisions.steering import ACTOR
from deploy.rules.assignment import WINDOW_US
from deploy.settings import Settings
from feedback.statistics.plan import DAY_US
from models.bases import Base
from tests.deploy.decisions.people import settle_draws
from tests.fakes import ManualClock, until
from tests.rollouts.test_end_to_end import DEATHS, USERS, rollout, through_shadow
from tests.rollouts.town import BLOCKS, DAY_S, Town, base_in, settings_of, stages, trained
from tests.test_rollout_by_evidence import Days

DISLIKED = 0.05
"""How often either arm's users dislike what they get: as is expected before anything is known (`deploy.rules.plan.EXPECTED`)."""

MARGIN = 0.07
"""So many more are allowed: to rule more out takes some 400 users whose window is over, a week or two of so small a town."""

BEGINS = 10
"""The day on which a candidate is approved; comparisons take two to five days."""

EVIDENCE = 0.5
"""The share at which that is waited for."""

PAGES = 'trimtab_rollout_verdict{action="hold"} 1.0'
"""What TrimtabRolloutHeld looks at."""


@dataclass(frozen=True)
class Range:
    """What a forecast says: between how many closed units, and between which moments, it is decided."""

    units: tuple[int, int]
    us: tuple[float, float]

    def holds(self, closed: int, at_us: int, looks: int = BLOCKS) -> bool:
        """Whether it was decided within, as nearly as so many looks a day can tell, with their part of the users before each."""
        few, short_us = USERS // looks, DAY_US // looks
        units = self.units[0] - few <= closed <= self.units[1] + few
        return units and self.us[0] - short_us <= at_us <= self.us[1] + short_us


@pytest.fixture(autouse=True)
def same_users(monkeypatch: pytest.MonkeyPatch) -> None:
    settle_draws(monkeypatch)


def forecast(look: dict[str, Any] | None, now_us: int) -> Range | None:
    """None where no unit is missing."""
    missing = [more for more in look["missing"].values() if more is not None] if look is not None else []
    if look is None or not missing:
        return None
    closed, after_s = sum(look["closed"].values()), look["outlook"]["range_s"]
    low, high = (closed + max(more[end] for more in missing) for end in ("low", "high"))
    return Range((low, high), (now_us + after_s[0] * 1e6, now_us + after_s[1] * 1e6))


def decided(control: Control, rollout_id: str) -> tuple[int, int]:
    """How many units had closed when the share rose beyond the evidence's, and when that was."""
    with control.read() as tx:
        at_us = min(one.started_at_us for one in tx.periods(rollout_id) if one.share > EVIDENCE)
    enrolled = control.assignments.enrolments(rollout_id)
    return sum(one.at_us + WINDOW_US <= at_us for one in enrolled), at_us


async def approved(town: Town, base: Base, seed: int) -> str:
    """A candidate that has passed comparisons and shadow, and whose rollout may begin, always on the same day: which turns the
    shadow copies is drawn, and with other users it would be another rollout, of which one in five breaks its forecast."""
    await town.live_a_day(USERS)
    digest = trained(base, town, seed)
    await town.clock.live_through(60, 30)
    await through_shadow(town, digest, BEGINS)
    while town.days < BEGINS:
        await town.live_a_day(USERS)
    await town.approve(digest)
    return digest


async def test_a_neutral_one_waits_at_its_share_and_goes_on_when_it_was_forecast(tmp_path: Path) -> None:
    """Who compares likes it a little better; who lives with it dislikes it as often as the other. The margin is wide, for few users
    come, and a share lasts a day at least, so that nothing but the evidence takes its time."""
    base = base_in(tmp_path)
    settings = settings_of(base, rollout=stages(max_dislike_rise=MARGIN))
    town, chance = Town(tmp_path, settings, seed=11, usual=DISLIKED), random.Random(12)
    town.preferred = 0.7
    async with town.living():
        digest = await approved(town, base, 4)
    ranges, deaths, end = list[Range](), 0, None
    while end is None:  # each three days the whole service, and its engine, is started again
        async with town.living() as service:
            for _ in range(3):
                for _ in range(3):
                    deaths += town.killed_controller(chance)
                await town.live_a_day(USERS)
                town.another_controller()
                under_way = await rollout(town)
                assert under_way is not None
                if under_way["share"] > EVIDENCE:
                    end = decided(service.control, under_way["id"])
                    break
                ranges += _as_shown(under_way["look"], town.clock.now_us())
            assert town.days < 60, await rollout(town)
    async with town.living():
        assert town.steps(digest) == [("promote", ACTOR)] * 3
    held = [one.holds(*end) for one in ranges]
    print(f"decided by {end[0]} units on day {town.days}; {sum(held)} of {len(held)} forecasts held: {ranges}")
    assert held[0]
    assert sum(held) >= len(held) / 2 >= 1, (
        "of one rollout's, which stand and fall together; of ten rollouts' see below"
    )
    assert deaths >= DEATHS


def _as_shown(look: dict[str, Any], now_us: int) -> list[Range]:
    """The forecast of a look that says so to people too; none where no unit is missing."""
    found = forecast(look, now_us)
    if found is None:
        return []
    said = " ".join(verdict_lines(look))
    assert said.startswith("not yet: ")
    assert "units more would do" in said
    assert "new users a day the next decision is to be expected in" in said
    return [found]


def test_of_many_forecasts_four_of_five_hold_whoever_comes(tmp_path: Path) -> None:
    """The same town without gateway and engine, ten times; its forecasts are read each evening, the first before any window is over."""
    held, first = list[bool](), 0
    for seed in range(1, 11):
        folder, clock = tmp_path / f"{seed}", ManualClock()
        folder.mkdir()
        days = Days(folder, clock, seed, Settings(rollout=stages(max_dislike_rise=MARGIN)))
        days.approved()
        ranges: list[Range] = []

        def beyond(rules: Operations, ranges: list[Range] = ranges, clock: ManualClock = clock) -> bool:
            under_way = rules.serving()["rollout"]
            found = forecast(under_way["look"], clock.now_us())
            ranges += [found] if found is not None else []
            return bool(under_way["share"] > EVIDENCE)

        days.pass_until(beyond, 60, errors=(0.0, 0.0), users=USERS, dislikes=DISLIKED)
        end = decided(days.control, days.rules(days.control).serving()["rollout"]["id"])
        held += [one.holds(*end, looks=1) for one in ranges]
        first += ranges[0].holds(*end, looks=1)
        days.control.close()
    print(f"{sum(held)} of {len(held)} forecasts held, {first} of the 10 first ones")
    assert sum(held) >= 0.8 * len(held) >= 50
    assert first >= 8


async def test_one_that_this_traffic_can_not_decide_is_held_at_its_longest_and_pages(tmp_path: Path) -> None:
    """A margin of three points takes thousands of users whose window is over, and a share lasts four days at most."""
    base = base_in(tmp_path)
    town = Town(tmp_path, settings_of(base, rollout=stages(max_dislike_rise=0.03, max_stage_s=4 * DAY_S)), seed=13)
    town.preferred = 0.8
    async with town.living() as service:
        digest = await approved(town, base, 5)
        expected: list[str] = []
        while (look := ((await rollout(town)) or {}).get("look")) is None or look["action"] != "hold":
            assert town.days < 30, look
            if look is not None and look["missing"]:
                assert (look["action"], look["outlook"]["decision_in_s"]) == ("wait", None)
                expected.append(look["outlook"]["said"])
            await town.live_a_day(USERS)
        print("\n".join((*expected, *verdict_lines(look))))
        assert len(expected) >= 2
        assert all(
            "then it is on hold: roll it back, and approve it anew with a wider margin" in one for one in expected
        )
        assert look["reasons"][0] == "the stage is as long as it may be, and the evidence is not enough"

        async def pages() -> bool:
            await town.clock.live_through(30, 30)
            return PAGES in (await service.admin.get("/metrics")).text

        await until(pages, "the metric that pages")
        await town.live_a_day(USERS)
        under_way = await rollout(town)
        assert under_way is not None
        assert (under_way["share"], under_way["look"]["action"]) == (EVIDENCE, "hold")
        assert town.steps(digest) == [("promote", ACTOR)] * 2
