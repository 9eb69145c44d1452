"""Shadow pairs: the judge may help, lie or be bribed; only people carry the decision."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.statistics.shadow import BETS, WEIGHTS, shadow_add, shadow_empty, shadow_log_e
from tests.feedback.statistics import literal

pairs = st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 1)), max_size=30)


@given(pairs, st.floats(0.05, 1))
def test_wealth_is_what_betting_pair_by_pair_says(drawn: list[tuple[float, float, int]], pi: float) -> None:
    wealth, seen = shadow_empty(), [0.5]
    for f, h, xi in drawn:
        wealth = shadow_add(wealth, f, h, xi, pi, sum(seen) / len(seen))
        seen.append(f)
    expected = math.log(literal.shadow(drawn, pi, WEIGHTS, BETS))
    assert float(shadow_log_e(wealth)) == pytest.approx(expected, abs=1e-9)


@given(st.floats(0.05, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_no_bet_gains_where_people_do_not_prefer_the_candidate(
    pi: float, won: float, lost: float, centre: float
) -> None:
    """Whatever the judge says of the pairs that people like (`won`) and of those that they don't (`lost`)."""
    fair = np.zeros((len(WEIGHTS), len(BETS)))
    for f, h in ((won, 1), (lost, 0)):
        for xi, chance in ((1, pi), (0, 1 - pi)):
            fair += chance / 2 * np.exp(shadow_add(shadow_empty(), f, h, xi, pi, centre))
    assert (fair <= 1 + 1e-12).all()


def test_a_judge_that_always_says_the_candidate_decides_nothing() -> None:
    wealth, random = shadow_empty(), np.random.default_rng(3)
    for _ in range(3_000):
        wealth = shadow_add(wealth, 1.0, random.integers(0, 2), random.random() < 0.2, 0.2, 1.0)
    assert float(shadow_log_e(wealth)) < math.log(20)


def test_people_alone_are_one_of_the_bets() -> None:
    wealth = shadow_empty()
    for _ in range(400):
        wealth = shadow_add(wealth, 0.0, 1.0, 1, 1.0, 0.5)  # the judge is wrong every time
    assert float(shadow_log_e(wealth)) > math.log(20)


def test_what_people_say_is_read_only_where_they_were_asked() -> None:
    asked_nobody = shadow_add(shadow_empty(), 0.7, float("nan"), 0, 0.2, 0.5)
    assert np.isfinite(asked_nobody).all()


@pytest.mark.parametrize(
    ("f", "h", "pi"), [(1.2, 1, 0.2), (0.5, 2, 0.2), (0.5, 1, 0), (0.5, 1, 1.1), (math.nan, 1, 0.2)]
)
def test_what_can_not_be_is_refused(f: float, h: float, pi: float) -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1|more than 0"):
        shadow_add(shadow_empty(), f, h, 1, pi, 0.5)
