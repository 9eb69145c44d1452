"""Thousands of small worlds full of misfortune; and mistakes of ours that must be noticed in them."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from tests.simulator import disk
from tests.simulator.mutants import Mutant, disk_mutants, mutants
from tests.simulator.simulation import simulate

SEEDS, ENOUGH = 100, 500


@pytest.mark.slow
def test_whatever_happens_every_record_is_one_fact_every_unrated_turn_is_judged_and_every_snapshot_is_whole() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulator", "--seeds", str(SEEDS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", mutants())
def test_a_mistake_is_noticed(name: str) -> None:
    with mutants()[name].made():
        found = next((seed for seed in range(ENOUGH) if simulate(seed) is not None), None)
    assert found is not None, f"{ENOUGH} seeds and nobody noticed"
    assert simulate(found) is None, "without the mistake nothing is wrong"


@pytest.mark.parametrize("name", disk_mutants())
def test_a_mistake_in_sealing_is_noticed(name: str) -> None:
    with disk_mutants()[name].made():
        assert any(disk.simulate(seed) is not None for seed in range(ENOUGH))


@pytest.mark.parametrize(("name", "mutant"), [*mutants().items(), *disk_mutants().items()])
def test_a_mistake_is_one_in_our_own_code(name: str, mutant: Mutant) -> None:
    where = mutant.owner.__name__ if inspect.ismodule(mutant.owner) else mutant.owner.__module__
    assert where.split(".")[0] in ("feedback", "streams", "models", "deploy"), name
    assert mutant.name in vars(mutant.owner), name


def test_a_seed_means_the_same_again() -> None:
    stories: list[list[str]] = [[], []]
    for story in stories:
        simulate(5, tell=story.append)
    assert stories[0] == stories[1]
    assert len(stories[0]) > 20
