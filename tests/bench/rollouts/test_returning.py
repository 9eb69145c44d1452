"""Users who come back: they are enrolled as the service enrols them, and what is stored of the draw is what tells good from bad."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.rollouts.returning import Returning
from bench.rollouts.scenarios import ALIKE, ONE
from deploy.rules import assignment
from deploy.rules.assignment import Conversation, Enrolment, Routing, enrol
from feedback.statistics.replaying import replay

RISING = ((0.05, 4), (0.10, 4), (0.25, 4), (0.5, 8))


def test_users_are_enrolled_as_the_service_enrols_them_visit_by_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    world, random = Returning(ALIKE, days=20, shares=RISING, monthly=300), np.random.default_rng(2)
    visits, place = list(world.visits(random)), random.random(world.users)
    monkeypatch.setattr(assignment, "place", lambda rollout, salt, unit: place[int(unit.split("/")[1])])
    last: dict[int, Enrolment] = {}
    for share, (users, at_us) in zip(np.repeat(*zip(*RISING, strict=True)).tolist(), visits, strict=True):
        routing = Routing(candidate="c", rollout_id="r", share=share)
        for user, at in zip(users.tolist(), at_us.tolist(), strict=True):
            one = enrol(Conversation("t", "c", str(user), at), routing, last.get(user))
            if one is not last.get(user):
                last[user] = one
    enrolled = world.enrolled(iter(visits), place)
    assert (np.diff(enrolled.opened_us) >= 0).all()
    for user, one in last.items():
        mine = enrolled.user == user
        assert mine.sum() == one.number + 1
        assert enrolled.opened_us[mine][-1] == one.at_us
        assert enrolled.probability[mine][-1] == pytest.approx(one.probability)
        assert enrolled.arm[mine].tolist() == [0] * one.number + [one.arm == "candidate"]
    assert {one.number for one in last.values()} >= {0, 1, 2}


def test_a_month_brings_as_many_users_as_it_is_named_for() -> None:
    world = Returning(ALIKE, days=30, shares=((0.05, 30),), monthly=5_000)
    came = {user for users, _ in world.visits(np.random.default_rng(1)) for user in users.tolist()}
    assert len(came) == pytest.approx(5_000, rel=0.03)


def test_harmless_rollouts_go_on_with_the_probability_that_is_left_and_stop_with_the_share_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A share in its place says of former incumbents that more of them should have come to the candidate than could."""
    world = Returning({"down": (0.10, 0.10)}, days=20, shares=RISING, monthly=3_000)
    plan = replace(ONE, promotion_alpha=1e-9)

    def actions() -> list[str]:
        random = np.random.default_rng(4)
        return [replay(plan, units)[0][0] for units in world.rollouts(plan, 20, random)]

    assert actions() == ["wait"] * 20
    monkeypatch.setattr("bench.rollouts.returning.entry_share", lambda share, low: share)
    assert actions().count("hold") >= 19
