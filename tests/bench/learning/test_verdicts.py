"""Intervals, and what is met, not met or not known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.learning.prompts import Prompt
from bench.learning.trial import held_by_retention
from bench.learning.verdicts import Line, bootstrap, judge, summarise
from bench.learning.wishes import WISHES
from models.sampling import Sampled
from tests.models.snapshots import said, turn

PROMPTS = [Prompt(turn(n, "gate", said(f"Where is K-{n}?"), "-", "en"), f"K-{n}") for n in range(10, 40)]


def line(right: int, seeds: int = 2, lost: int = 0, held: tuple[str, ...] = (), method: str = "ours") -> Line:
    """A method that names the number to the first `right` of 30 prompts; the base names none."""
    no, yes = Sampled("No idea.", True), [Sampled(f"{p.number} it is.", True) for p in PROMPTS]
    facts = {"base_right": 12, "lost": ["fact"] * lost, "gained": []}
    result: dict[str, Any] = {
        "picks": 9,
        "edits": 0,
        "held": list(held),
        "retention": {"facts": facts, "neutral_kl": 0.1},
    }
    result["replies"] = [[yes[n] if n < right else no] for n in range(30)]
    before = {seed: [[no]] * 30 for seed in range(seeds)}
    return summarise("b", WISHES["number"], method, PROMPTS, len, before, dict.fromkeys(range(seeds), result))


def met(ours: Line, theirs: Line | None, seeds: int = 2) -> list[bool | None]:
    return [verdict.met for verdict in judge(ours, theirs, range(seeds), knows_facts=True)]


def test_the_interval_of_a_share_is_about_as_wide_as_theory_says() -> None:
    effect = bootstrap(np.array([[1.0] * 30 + [0.0] * 70]))
    assert effect.mean == pytest.approx(0.3)
    assert effect.high - effect.low == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 100), rel=0.1)


def test_an_effect_is_the_difference_to_the_base_on_the_same_prompts() -> None:
    found = line(15)
    assert found.before == 0
    assert found.pooled.mean == pytest.approx(0.5)
    assert set(found.by_seed) == {0, 1}
    assert found.pooled.low > 0.3


def test_a_clear_effect_beside_an_equal_one_is_met() -> None:
    assert met(line(15), line(15, method="trl")) == [True, True, True]


def test_no_effect_is_not_met_and_one_far_behind_is_behind() -> None:
    assert met(line(0), line(30, method="trl"))[:2] == [False, False]


def test_a_missing_seed_is_not_known_unless_another_fails_already() -> None:
    assert met(line(15, 1), line(15, 1, method="trl")) == [None, None, None]
    assert met(line(0, 1), None) == [False, None]


def test_three_facts_more_lost_than_trl_are_met_only_where_the_gate_holds_by_name() -> None:
    theirs = line(15, lost=1, method="trl")
    assert met(line(15, lost=3), theirs)[2] is True
    assert met(line(15, lost=4), theirs)[2] is False
    assert met(line(15, lost=4, held=("retention: of 12 ...",)), theirs)[2] is True


def test_the_gate_names_what_was_forgotten() -> None:
    facts = {"base_right": 12, "lost": ["gold", "water", "ocean"], "gained": []}
    (said_,) = held_by_retention({"neutral_kl": 0.1, "facts": facts, "gate_kl": 0.1})
    assert "gold, water, ocean" in said_
    assert held_by_retention({"neutral_kl": 0.1, "facts": facts | {"lost": []}, "gate_kl": None}) == []
