"""Thousands of small worlds full of misfortune; and mistakes of ours that must be noticed in them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.simulator.mutants import mutants
from tests.simulator.simulation import simulate

SEEDS, ENOUGH = 2_000, 200


@pytest.mark.slow
def test_whatever_happens_every_record_is_one_fact_and_every_unrated_turn_is_judged() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulator", "--seeds", str(SEEDS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", mutants())
def test_a_mistake_is_noticed(name: str) -> None:
    with mutants()[name]:
        found = next((seed for seed in range(ENOUGH) if simulate(seed) is not None), None)
    assert found is not None, f"{ENOUGH} seeds and nobody noticed"
    assert simulate(found) is None, "without the mistake nothing is wrong"


def test_a_seed_means_the_same_again() -> None:
    stories: list[list[str]] = [[], []]
    for story in stories:
        simulate(5, tell=story.append)
    assert stories[0] == stories[1]
    assert len(stories[0]) > 20
