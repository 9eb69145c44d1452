"""A training under way, as a person is told of it."""

from __future__ import annotations

from typing import Any

from deploy.cli.training_view import training_document, training_line
from deploy.training.noting import Noted

NOW_US = 1_800_000_000_000_000
EARLIER = {"base": 1.0, "reward": 60.0, "samples": 30.0, "policy": 60.0, "evaluate": 30.0}


def told(**changes: Any) -> str:
    began_us = NOW_US - 40_000_000
    values = {"done": 20, "total": 80, "at_us": NOW_US, "first_done": 0, "first_at_us": began_us, "earlier": EARLIER}
    document = training_document(
        Noted(**{"training": 1, "phase": "reward", "phase_began_us": began_us} | values | changes), NOW_US
    )
    assert document is not None
    return training_line(document)


def test_it_says_the_phase_the_pace_and_how_long_is_left() -> None:
    assert told() == "2/5 reward model: 20 of 80 steps, 2.0 s each, 2:00 left, all ~4:00"
    assert told(earlier={}) == "2/5 reward model: 20 of 80 steps, 2.0 s each, 2:00 left"


def test_what_is_left_counts_down_since_it_was_noted() -> None:
    assert told(at_us=NOW_US - 20_000_000, first_at_us=NOW_US - 60_000_000).endswith("1:40 left, all ~3:40")


def test_before_the_first_unit_is_done_only_an_earlier_training_says_how_long_all_takes() -> None:
    began = {"done": 0, "total": 0, "first_at_us": NOW_US}
    assert told(**began) == "2/5 reward model: begins, all ~2:20"
    assert told(**began, earlier={}) == "2/5 reward model: begins"


def test_of_a_training_that_noted_nothing_nothing_is_said() -> None:
    assert training_document(None, NOW_US) is None
