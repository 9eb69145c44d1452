import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.judge.ledger import Budget, Spent, hour_of, lot_of, refusal


@given(
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(allow_nan=True, allow_infinity=True),
)
def test_nothing_is_granted_beyond_a_budget(
    hour: float, day: float, per_hour: float, per_day: float, cost: float
) -> None:
    refused = refusal(Spent(hour, day), Budget(per_hour, per_day), cost)
    if cost <= 0:
        assert refused is None
    else:
        assert (refused is None) == (day + cost <= per_day and hour + cost <= per_hour)


def test_the_more_is_spent_the_smaller_is_the_sample_that_gets_money() -> None:
    lots = [lot_of(f"q{number}") for number in range(4_000)]

    def granted(spent_usd: float) -> set[int]:
        return {lot for lot in lots if refusal(Spent(spent_usd, 0.0), Budget(1.0, 9.0), 0.001, lot) is None}

    assert granted(0.0) == granted(0.499) == set(lots)
    samples = [granted(spent_usd) for spent_usd in (0.499, 0.5, 0.75, 0.875)]
    assert all(later < sample for sample, later in itertools.pairwise(samples))
    assert [round(len(sample) / 4_000, 1) for sample in samples] == [1.0, 0.5, 0.2, 0.1]


@given(st.floats(0, 2), st.floats(0, 1), st.floats(allow_nan=True, allow_infinity=True), st.integers(0, 2**32 - 1))
def test_a_lot_never_gets_money_that_is_not_there(spent_usd: float, most_usd: float, cost_usd: float, lot: int) -> None:
    spent, budget = Spent(spent_usd, spent_usd), Budget(most_usd, most_usd)
    if refusal(spent, budget, cost_usd) is not None:
        assert refusal(spent, budget, cost_usd, lot) is not None


def test_a_day_that_is_used_up_is_told_before_the_hour() -> None:
    assert refusal(Spent(1.0, 1.0), Budget(1.0, 1.0), 0.1) == "budget_day"
    assert refusal(Spent(1.0, 1.0), Budget(1.0, 9.0), 0.1) == "budget_hour"


def test_without_a_budget_only_what_costs_nothing_is_asked() -> None:
    assert refusal(Spent(0.0, 0.0), Budget(0.0, 0.0), 1e-300) == "budget_day"
    assert refusal(Spent(0.0, 0.0), Budget(0.0, 0.0), 0.0, lot=1) is None


def test_a_budget_spent_to_the_last_bit_is_no_error() -> None:
    nearly = math.nextafter(1.0, 0.0)
    assert refusal(Spent(nearly, 0.0), Budget(1.0, 9.0), 1e-17, lot=1) == "budget_hour"
    assert refusal(Spent(1.0, 0.0), Budget(1.0, 9.0), 1e-17, lot=1) is None  # too small to be seen in the sum


@pytest.mark.parametrize(
    ("at_us", "hour"),
    [
        (0, "1970-01-01T00"),
        (1_790_000_000_000_000, "2026-09-21T14"),
        (1_798_761_599_999_999, "2026-12-31T23"),
        (1_798_761_600_000_000, "2027-01-01T00"),
    ],
)
def test_the_hour_of_a_moment_is_utc_and_changes_with_its_first_microsecond(at_us: int, hour: str) -> None:
    assert hour_of(at_us) == hour
