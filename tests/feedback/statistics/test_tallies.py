"""Tallies: counts that merge by adding, of strata that are frozen."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.statistics import tallies
from feedback.statistics.tallies import Strata, add, empty, log_mean_exp
from tests.feedback.statistics.literal import Unit
from tests.feedback.statistics.strategies import rollouts, tally


def test_the_example_in_the_docstring_holds() -> None:
    result = doctest.testmod(tallies)
    assert (result.attempted, result.failed) == (1, 0)


@given(rollouts(), st.integers(0, 40))
def test_tallies_merge_by_adding(drawn: tuple[Strata, list[Unit]], cut: int) -> None:
    strata, units = drawn
    assert (tally(strata, units[:cut]) + tally(strata, units[cut:]) == tally(strata, units)).all()


def test_one_unit_each_is_added_to_many_tallies() -> None:
    strata = Strata(np.array([0.1, 0.5]), np.array([0.3, 0.3]))
    counts = add(empty(strata, 3), [0, 1, 1], [1, 0, 1], [0, 1, 1])
    assert counts.sum() == 3
    assert [counts[0, 0, 1, 0], counts[1, 1, 0, 1], counts[2, 1, 1, 1]] == [1, 1, 1]


@pytest.mark.parametrize(
    ("unit", "said"), [((2, 0, 0), "stratum"), ((-1, 0, 0), "stratum"), ((0, 2, 0), "arm"), ((0, 1, 0.5), "outcome")]
)
def test_what_no_unit_can_be_is_refused_by_name(unit: tuple[float, float, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        add(empty(Strata(np.array([0.1, 0.5]), np.array([0.3, 0.3]))), *unit)


@pytest.mark.parametrize(
    ("p", "m", "said"),
    [
        ([1.0], [0.3], "share must lie strictly between"),
        ([0.5], [0.0], "rate must lie strictly between"),
        ([0.5], [float("nan")], "rate must lie"),
        ([0.5, 0.6], [0.3], "2 shares and 1 rates"),
    ],
)
def test_strata_that_can_not_be_are_refused(p: list[float], m: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Strata(np.array(p), np.array(m))


def test_a_stage_never_falls() -> None:
    with pytest.raises(ValueError, match="never falls"):
        Strata(np.array([0.5, 0.6]), np.array([0.3, 0.3]), np.array([1, 0]))


def test_wealth_beyond_what_a_float_holds_has_its_logarithm() -> None:
    assert float(log_mean_exp(np.array([2_000.0, 2_000.0]))) == pytest.approx(2_000)
    assert float(log_mean_exp(np.array([-2_000.0, -2_000.0]))) == pytest.approx(-2_000)
