"""Shadow pairs: the judge may help, lie or be bribed; only people carry the decision."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from truescore import first_exclusion, ppi_estimate

from feedback.statistics.shadow import BETS, WEIGHTS, shadow_add, shadow_empty, shadow_log_e
from feedback.statistics.tallies import Floats
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


def _values(f: Floats, h: Floats, xi: Floats, pi: float, centre: Floats | float) -> Floats:
    """What is bet on, [N, W], found again in the wealth that one pair brings."""
    won = shadow_add(shadow_empty(len(f)), f, h, xi, np.full(len(f), pi), np.broadcast_to(centre, f.shape))
    weight = np.asarray(WEIGHTS)
    return np.expm1(won[..., -1]) * np.maximum(0.5 / pi + weight * (1 / pi - 1), weight) / BETS[-1]


def _judged(random: np.random.Generator, many: int, win: float, asked: int, right: float) -> tuple[Floats, ...]:
    """What a judge who is right so often and people say of pairs, and which of them people were asked."""
    h = (random.random(many) < win).astype(float)
    f = np.where(random.random(many) < right, h, 1 - h) * random.uniform(0.6, 1, many)
    return f, h, random.permutation(many) < asked


@given(st.integers(0, 2**32), st.integers(20, 200), st.floats(0.1, 0.9), st.floats(0, 1))
def test_the_mean_of_what_is_bet_on_is_truescores_prediction_powered_estimate(
    seed: int, many: int, win: float, right: float
) -> None:
    """Where the part that people were asked is what it was to be, and the centre stays: its lambda is then weight * (1 - pi)."""
    random = np.random.default_rng(seed)
    asked = int(random.integers(2, many - 1))
    f, h, xi = _judged(random, many, win, asked, right)
    means = _values(f, h, xi, asked / many, random.random()).mean(0)
    for weight, mean in zip(WEIGHTS, means, strict=True):
        theirs = ppi_estimate(f, h[xi], np.flatnonzero(xi), lambda_=weight * (1 - asked / many))
        assert mean == pytest.approx(theirs.point - 0.5, abs=1e-9)


@pytest.mark.parametrize(("win", "right", "preferred"), [(0.65, 0.75, True), (0.5, 0.75, False), (0.35, 0.1, False)])
def test_truescores_estimate_is_of_the_same_mind_about_a_helpful_judge_and_a_lying_one(
    win: float, right: float, preferred: bool
) -> None:
    """With the centre that moves, pairs drawn one by one, and the last judge for the candidate wherever people are not."""
    random = np.random.default_rng(11)
    f, h, _ = _judged(random, 4_000, win, 0, right)
    xi = random.random(len(f)) < 0.2
    before = np.append(0.5, (0.5 + f.cumsum()) / np.arange(2, len(f) + 2))[:-1]
    theirs = ppi_estimate(f, h[xi], np.flatnonzero(xi), lambda_=0.8)
    assert _values(f, h, xi, 0.2, before).mean(0)[-1] == pytest.approx(theirs.point - 0.5, abs=theirs.standard_error)
    wealth = shadow_empty()
    for pair in zip(f, h, xi, before, strict=True):
        wealth = shadow_add(wealth, *pair[:3], 0.2, pair[3])
    assert (float(shadow_log_e(wealth)) >= math.log(20)) == (theirs.low > 0.5) == preferred


def _passes(h: Floats) -> list[int | None]:
    """With which pair each stream, [R, N], of people's answers alone shows a preference at 5%."""
    wealth, at = shadow_empty(len(h)), np.zeros(len(h), int)
    for number, answers in enumerate(h.T, 1):
        wealth = shadow_add(wealth, 0.5, answers, 1, 1.0, 0.5)
        at = np.where((at == 0) & (shadow_log_e(wealth) >= math.log(20)), number, at)
    return [int(one) or None for one in at]


def _excludes(h: Floats) -> list[int | None]:
    return [first_exclusion(answers, 0.5, alpha=0.05, direction="above") for answers in h]


@pytest.mark.parametrize("win", [0.6, 0.7])
def test_people_alone_take_no_more_answers_than_truescores_confidence_sequence_but_a_fifth_in_a_stream_of_twenty(
    win: float,
) -> None:
    h = (np.random.default_rng(5).random((100, 1_200)) < win).astype(float)
    ours, theirs = (np.array([at or math.inf for at in found(h)]) for found in (_passes, _excludes))
    assert np.isfinite(ours).all()
    assert np.median(ours) <= np.median(theirs)
    assert np.quantile(ours / theirs, 0.95) <= 1.2


def test_where_nobody_prefers_anything_neither_shows_it_in_more_than_one_of_twenty_streams() -> None:
    h = (np.random.default_rng(6).random((400, 1_000)) < 0.5).astype(float)
    for found in (_passes(h), _excludes(h)):
        assert sum(at is not None for at in found) <= 0.05 * len(h)
