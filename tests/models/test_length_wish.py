"""Whether people wish for a length is told from whether a reward model only mistakes it for worth."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.length_wish import confirmed_share
from models.reward import sigmoid

TREND = -0.05


def picks(wish: float, count: int, seed: int = 0) -> list[tuple[float, float, float, float, float]]:
    """Pairs by people who value content, and length by `wish` of what the reward model makes of it."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        content, tokens = chance.gauss(0, 1.5), chance.gauss(0, 30)
        better = chance.random() < sigmoid(content + wish * TREND * tokens)
        found.append((content + TREND * tokens, tokens, 0.0, float(better), 1.0))
    return found


def test_what_people_wish_for_is_confirmed_and_what_they_do_not_is_not() -> None:
    assert confirmed_share(picks(1.0, 400), TREND) > 0.75
    assert confirmed_share(picks(0.5, 400), TREND) == pytest.approx(0.5, abs=0.2)
    assert confirmed_share(picks(0.0, 400), TREND) < 0.15
    assert confirmed_share(picks(-1.0, 400), TREND) == 0


def test_a_few_labels_confirm_little_and_none_nothing() -> None:
    few = sum(confirmed_share(picks(1.0, 3, seed), TREND) for seed in range(20)) / 20
    assert few < 0.6
    assert confirmed_share([], TREND) == 0
    assert confirmed_share(picks(1.0, 40), 0.0) == 0


def test_thumbs_count_too_with_the_share_of_contented_people_left_aside() -> None:
    chance = random.Random(1)
    thumbs = []
    for _ in range(600):
        content, tokens = chance.gauss(0, 1.5), chance.uniform(10, 110)
        up = chance.random() < sigmoid(content + TREND * (tokens - 60) + 2)
        thumbs.append((content + TREND * tokens, tokens, 1.0, float(up), 1.0))
    assert confirmed_share(thumbs, TREND) > 0.7


@given(
    st.lists(
        st.tuples(
            st.floats(-50, 50), st.floats(-500, 500), st.sampled_from([0.0, 1.0]), st.floats(0, 1), st.floats(0, 5)
        ),
        max_size=20,
    ),
    st.floats(-2, 2),
)
def test_it_is_a_share_whatever_the_labels(
    points: list[tuple[float, float, float, float, float]], trend: float
) -> None:
    assert 0 <= confirmed_share(points, trend) <= 1
