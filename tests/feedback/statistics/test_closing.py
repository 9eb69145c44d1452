"""Closing: what arrives within grace counts once, in whatever order and however often it is told; what comes later is late."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.statistics.closing import close

AGE, GRACE = 100, 10

events = st.lists(st.tuples(st.integers(0, 9), st.integers(-20, 200), st.integers(0, 60)), max_size=40)


def _close(told: list[tuple[int, int, int]], now: int) -> tuple[list[int], int]:
    """Units open at 0, 10, …, 90; events are (unit, after its opening, delay)."""
    columns = np.array(told, np.int64).reshape(-1, 3)
    unit, at = columns[:, 0], columns[:, 0] * 10 + columns[:, 1]
    outcomes = close(np.arange(10) * 10, unit, at, at + columns[:, 2], AGE, GRACE, now)
    return outcomes.y.tolist(), outcomes.late


@given(events, st.integers(0, 400), st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(told: list[tuple[int, int, int]], now: int, random: object) -> None:
    shuffled = told + told[:5]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert _close(shuffled, now)[0] == _close(told, now)[0]


@given(events, st.integers(0, 400))
def test_what_has_closed_is_never_revised(told: list[tuple[int, int, int]], now: int) -> None:
    """Whatever arrives after `now`, and whenever it is looked at again."""
    by_now = [(unit, after, delay) for unit, after, delay in told if unit * 10 + after + delay <= now]
    then = _close(by_now, now)[0]
    assert _close(told, 1_000)[0][: len(then)] == then


def test_a_unit_closes_after_its_age_and_grace() -> None:
    assert _close([(0, 5, 0)], 109)[0] == []
    assert _close([(0, 5, 0)], 110)[0] == [1]


@pytest.mark.parametrize(
    ("after", "delay", "y", "late"),
    [(0, 0, 1, 0), (99, 11, 1, 0), (99, 12, 0, 1), (100, 0, 0, 0), (-1, 0, 0, 0), (5, 500, 0, 1)],
)
def test_an_event_counts_within_the_age_if_it_arrives_within_grace(after: int, delay: int, y: int, late: int) -> None:
    outcomes, dropped = _close([(0, after, delay)], 1_000)
    assert (outcomes[0], dropped) == (y, late)


def test_units_out_of_order_are_refused() -> None:
    nothing = np.array([], np.int64)
    with pytest.raises(ValueError, match="in order of assignment"):
        close(np.array([5, 4]), nothing, nothing, nothing, AGE, GRACE, 0)
