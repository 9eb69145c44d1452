"""The simulated public: its rates are those that a world names, and so many news come late as it says."""

from __future__ import annotations

import numpy as np
import pytest

from bench.rollouts.returning import Returning, drawn
from bench.rollouts.scenarios import ONE
from bench.rollouts.world import World

NAME = "down at 72 h"


def test_the_rates_are_those_that_a_world_names_and_so_is_the_part_that_comes_late() -> None:
    world = World({"down": (0.1, 0.2)}, days=14, late=(0.0, 0.5))
    (units,) = world.rollouts(ONE, 10, np.random.default_rng(1))
    assert units.late is not None
    for arm, rate, late in ((0, 0.1, 0.0), (1, 0.1, 0.1)):
        mine = (units.arm == arm) & (np.arange(units.arm.shape[1]) < 12 * world.per_day)
        assert units.y[NAME][mine].mean() == pytest.approx(rate, rel=0.1)
        assert (units.late[mine] >= 0).mean() == pytest.approx(late, rel=0.1)
    assert (units.late >= np.arange(units.arm.shape[1]))[units.late >= 0].all()


def test_where_nothing_comes_late_there_is_nothing_to_compare() -> None:
    (units,) = World({"down": (0.1, 0.1)}, days=2).rollouts(ONE, 1, np.random.default_rng(1))
    assert units.late is None


def test_a_user_who_never_minds_does_not_mind_when_he_comes_back_and_another_minds_twice_as_often() -> None:
    world = Returning({"down": (0.3, 0.3)}, days=20, monthly=5_000, weekly=0)
    random = np.random.default_rng(3)
    enrolled = world.enrolled(world.visits(random), random.random(world.users))
    temper = np.where(random.random(world.users) < 0.5, -1.0, 1.0)[enrolled.user]
    y = world.told(ONE, drawn(enrolled, temper[None], {}), random).y[NAME][0]
    assert y[temper > 0].mean() == pytest.approx(0.6, abs=0.03)
    assert y[temper < 0].sum() == 0
