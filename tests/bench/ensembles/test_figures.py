"""What is said of an ensemble's spread, on rewards where the answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bench.ensembles.figures import (
    Held,
    accuracy_of_worth,
    correlation_of_members,
    difference,
    doubt_finds_wrong,
    estimate,
    spread_at_equal_confidence,
    spread_finds_wrong,
    spread_with_error,
)


def held(rewards: np.ndarray, said: np.ndarray, chats: int = 50) -> Held:
    return Held([f"c{n % chats}" for n in range(len(said))], rewards, said, np.full(len(said), np.nan))


def members(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Three members with this mean and this standard deviation."""
    return np.stack([mean + spread * step * math.sqrt(1.5) for step in (-1.0, 0.0, 1.0)], axis=1)


CHANCE = np.random.default_rng(3)
MARGIN = CHANCE.normal(size=2_000)
SURE = 1 / (1 + np.exp(-np.abs(MARGIN)))


def test_members_that_scale_alike_have_a_spread_that_says_nothing_at_equal_confidence() -> None:
    right = CHANCE.random(2_000) < SURE
    scaling = held(members(MARGIN, 0.1 * np.abs(MARGIN)), np.where(right, SURE, 1 - SURE))
    assert correlation_of_members(scaling) > 0.98
    assert spread_with_error(scaling) < -0.3, "a larger margin spreads more, and is more often right"
    assert spread_finds_wrong(scaling) == pytest.approx(1 - doubt_finds_wrong(scaling))
    assert abs(spread_at_equal_confidence(scaling)) < 0.06


def test_a_spread_that_is_wide_where_the_mean_is_wrong_is_found_at_equal_confidence() -> None:
    right = CHANCE.random(2_000) < SURE
    telling = held(members(MARGIN, np.where(right, 0.1, 0.2)), np.where(right, SURE, 1 - SURE))
    assert spread_finds_wrong(telling) == 1
    assert spread_at_equal_confidence(telling) > 0.5


def test_an_interval_is_over_conversations_and_the_same_every_time() -> None:
    right = CHANCE.random(200) < 0.7
    said = np.where(right, 0.6, 0.4)

    def share(part: Held) -> float:
        return float((part.said > 0.5).mean())

    rewards = members(MARGIN[:200], np.ones(200))
    many, few = ([held(rewards, said, chats)] for chats in (200, 4))
    assert estimate(share, many, 200) == estimate(share, many, 200)
    assert estimate(share, many, 200).low < right.mean() < estimate(share, many, 200).high
    wide, narrow = ([replace(many[0], conversations=[str(hit) for hit in right])], many)
    assert estimate(share, wide, 200).high - estimate(share, wide, 200).low > (
        2 * (estimate(share, narrow, 200).high - estimate(share, narrow, 200).low)
    ), "where conversations are of one kind each"
    assert estimate(share, few, 200).value == pytest.approx(right.mean())


def test_an_ensemble_beside_itself_differs_by_nothing_whatever_is_drawn() -> None:
    right = CHANCE.random(200) < 0.7
    same = [held(members(MARGIN[:200], np.abs(MARGIN[200:400])), np.where(right, 0.7, 0.3))] * 2
    found = difference(spread_with_error, same, same, 50)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_a_label_has_no_worth_and_equal_worths_are_half_right() -> None:
    of_labels = held(members(MARGIN[:4], np.ones(4)), np.full(4, 0.7))
    assert str(estimate(accuracy_of_worth, [of_labels], 20)) == "-"
    of_pairs = replace(of_labels, worth=np.array([0.3, 0.0, -0.1, 2.0]))
    assert accuracy_of_worth(of_pairs) == pytest.approx(2.5 / 4)


def test_a_fold_where_nothing_was_wrong_says_nothing_of_what_finds_it() -> None:
    right = held(members(MARGIN[:40], np.abs(MARGIN[40:80])), np.full(40, 0.7))
    mixed = held(members(MARGIN[:40], np.where(MARGIN[:40] > 0, 0.1, 0.2)), np.where(MARGIN[:40] > 0, 0.7, 0.3))
    assert estimate(spread_finds_wrong, [right, mixed], 20).value == 1
    assert math.isnan(estimate(spread_finds_wrong, [right], 20).value)
