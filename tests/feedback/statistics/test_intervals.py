"""Intervals: they hold the share, mirror each other, and say nothing where nothing is known."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st
from truescore import wilson_interval

from feedback.statistics import intervals
from feedback.statistics.intervals import wilson


def test_the_example_in_the_docstring_holds() -> None:
    result = doctest.testmod(intervals)
    assert (result.attempted, result.failed) == (1, 0)


def test_everything_is_possible_where_nothing_was_seen() -> None:
    assert wilson(0.5, 0, 0.95) == (0.0, 1.0)


@given(st.integers(1, 10_000), st.data())
def test_the_bounds_hold_the_share_and_mirror_each_other(n: int, data: st.DataObject) -> None:
    share = data.draw(st.integers(0, n)) / n
    lower, upper = wilson(share, n, 0.95)
    assert 0 <= lower <= share + 1e-12
    assert share - 1e-12 <= upper <= 1
    assert wilson(1 - share, n, 0.95) == pytest.approx((1 - upper, 1 - lower))


@given(st.integers(1, 10_000), st.data(), st.sampled_from([0.01, 0.05, 0.1, 0.32]))
def test_truescore_says_the_same(n: int, data: st.DataObject, alpha: float) -> None:
    ones = data.draw(st.integers(0, n))
    theirs = wilson_interval(ones, n, alpha=alpha)
    assert wilson(ones / n, n, 1 - alpha / 2) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
