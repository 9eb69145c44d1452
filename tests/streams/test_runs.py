"""Runs are committed in order, as far as they are acknowledged without a gap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.runs import RunOffsets


def test_nothing_is_committable_before_the_first_run_is_done() -> None:
    runs = RunOffsets()
    runs.delivered(9)
    runs.delivered(19)
    runs.acknowledged(19)
    assert runs.committable() is None
    runs.acknowledged(9)
    assert runs.committable() == 20
    assert runs.committable() is None


@given(st.permutations(range(8)), st.lists(st.integers(1, 5), min_size=8, max_size=8))
def test_what_is_committable_never_passes_a_run_that_is_not_done(order: list[int], lengths: list[int]) -> None:
    ends = [sum(lengths[: n + 1]) - 1 for n in range(8)]
    runs = RunOffsets()
    for end in ends:
        runs.delivered(end)
    done: set[int] = set()
    committed = 0
    for number in order:
        done.add(number)
        runs.acknowledged(ends[number])
        committed = runs.committable() or committed
        first_open = min(set(range(8)) - done, default=None)
        assert committed == (ends[-1] + 1 if first_open is None else sum(lengths[:first_open]))
