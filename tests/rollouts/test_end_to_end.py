"""From a trained adapter to everybody, or back: by the real gateway, comparisons, shadow, approval and canary. No hand overrides anything.

Scripted people, told time, a real engine and real adapters of random weights. Each test says what its people think.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from deploy.decisions.steering import ACTOR
from deploy.settings import GateSettings
from tests.deploy.decisions.people import settle_draws
from tests.rollouts.town import Town, base_in, settings_of, trained

USERS = 60
"""Newcomers a day."""

DEATHS = 10
"""So many controllers at least, at moments drawn at random."""


@pytest.fixture(autouse=True)
def same_users(monkeypatch: pytest.MonkeyPatch) -> None:
    settle_draws(monkeypatch)


async def through_shadow(town: Town, digest: str, most: int = 25) -> int:
    """Until the gate lets it pass by what people said of pairs; how many they labelled."""
    labelled = 0
    while (await town.candidate(digest))["state"] != "passed":
        shown = await town.candidate(digest)
        assert shown["state"] == "held", shown["gate"]
        assert town.days < most, shown["gate"]
        await town.live_a_day(USERS)
        labelled += await town.compare(digest)
        await town.clock.live_through(120, 30)
    return labelled


async def rollout(town: Town) -> dict[str, Any] | None:
    found: dict[str, Any] | None = (await town.status())["rollout"]
    return found


async def test_a_good_candidate_comes_to_everybody_whatever_dies_meanwhile(tmp_path: Path) -> None:
    base = base_in(tmp_path)
    town, chance = Town(tmp_path, settings_of(base), seed=3), random.Random(5)
    town.preferred = 0.8
    async with town.living() as service:
        await town.live_a_day(USERS)
        digest = trained(base, town, 1)
        await town.clock.live_through(60, 30)
        labelled = await through_shadow(town, digest)
        print(f"{labelled} pairs were labelled by day {town.days}")
        await town.approve(digest)
    deaths = 0
    while True:  # each three days the whole service, and its engine, is started again
        async with town.living() as service:
            for _ in range(3):
                if (await rollout(town)) is None:
                    break
                for _ in range(3):
                    deaths += town.killed_controller(chance)
                await town.live_a_day(USERS)
                town.another_controller()
            if (await rollout(town)) is None:
                break
        assert town.days < 80
    async with town.living() as service:
        assert service.control.routing().incumbent == digest
        assert town.steps(digest) == [("promote", ACTOR)] * 4
    assert deaths >= DEATHS
    print(f"everybody has it on day {town.days}; {deaths} controllers died on the way")


async def test_a_bad_one_that_pleases_at_first_is_taken_back_by_itself(tmp_path: Path) -> None:
    """Its replies are three times as long as the incumbent's, and the policy is so lax as to allow that. Who compares likes them;
    who has to live with them does not."""
    base = base_in(tmp_path)
    town = Town(tmp_path, settings_of(base, GateSettings(max_length_ratio=4.0)), seed=4)
    town.preferred = 0.8
    stats = {"mean_tokens": 20.0, "repetition": 0.05, "language_match": 0.9}
    longer = {"candidate": stats | {"mean_tokens": 60.0}, "incumbent": stats}
    async with town.living():
        await town.live_a_day(USERS)
        digest = trained(base, town, 2, sample_stats=longer)
        await town.clock.live_through(60, 30)
        await through_shadow(town, digest)
        await town.approve(digest)
    town.disliked[digest] = 0.5
    begun, deaths, chance = town.days, 0, random.Random(5)
    while True:  # each day the whole service, and its engine, is started again
        async with town.living():
            if (under_way := await rollout(town)) is None:
                break
            assert town.days < begun + 30, under_way["look"]
            for _ in range(DEATHS):
                deaths += town.killed_controller(chance)
            await town.live_a_day(USERS)
            town.another_controller()
    async with town.living() as service:
        assert town.steps(digest)[-1] == ("rollback", ACTOR)
        assert service.control.routing().candidate is None
        assert (await town.candidate(digest))["state"] == "rolled_back"
        with service.control.read() as tx:
            name = tx.approvals(digest)[0].rollout_id
        units = service.control.assignments.enrolments(name)
        exposed = sum(one.arm == "candidate" for one in units)
    print(
        f"{exposed} of {len(units)} users had met it when it was taken back, {town.days - begun} days after its approval; "
        f"{deaths} controllers died on the way"
    )
    assert exposed < 2 * USERS
    assert deaths >= DEATHS


async def test_one_that_is_no_better_is_held_and_nobody_meets_it(tmp_path: Path) -> None:
    base = base_in(tmp_path)
    town = Town(tmp_path, settings_of(base), seed=6)
    async with town.living() as service:
        await town.live_a_day(USERS)
        digest = trained(base, town, 3)
        await town.clock.live_through(60, 30)
        for _ in range(8):
            await town.live_a_day(USERS)
            await town.compare(digest)
        await town.clock.live_through(120, 30)
        shown = await town.candidate(digest)
        assert shown["state"] == "held"
        assert (await rollout(town)) is None
        print(shown["gate"]["reasons"])
        counted = [pair for pair in service.control.comparisons.of(digest, None) if pair.labels]
    assert len(counted) > USERS
