"""A process whose lag grows while nothing moves ends; one that is merely behind does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.watchdog import Stalled, Watchdog


def test_a_lag_that_grows_while_nothing_is_done_ends_the_process() -> None:
    watchdog = Watchdog(after_s=60)
    watchdog.look(10, 5, 0)
    watchdog.look(20, 5, 50)
    with pytest.raises(Stalled, match="30 records wait and nothing was done for 61 s"):
        watchdog.look(30, 5, 61)


def test_a_lag_that_stands_still_is_waited_for() -> None:
    watchdog = Watchdog(after_s=60)
    for second in range(0, 6_000, 10):
        watchdog.look(10, 5, second)


def test_a_rebalance_is_movement_and_nothing_to_do_is_none() -> None:
    watchdog = Watchdog(after_s=60)
    watchdog.look(10, 5, 0)
    watchdog.look(20, 2, 59)
    watchdog.look(0, 2, 200)
    watchdog.look(30, 2, 210)
    with pytest.raises(Stalled):
        watchdog.look(30, 2, 300)


@given(st.lists(st.integers(1, 1_000), min_size=1))
def test_whoever_gets_anything_done_within_the_time_goes_on_however_far_behind(waiting: list[int]) -> None:
    watchdog = Watchdog(after_s=60)
    for number, records in enumerate(waiting):
        watchdog.look(records, number, 50.0 * number)
