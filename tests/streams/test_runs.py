"""Runs are committed in order, as far as they are acknowledged without a gap; where a partition begins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.runs import RunConsumer, RunOffsets


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


class Begin(RunConsumer):
    """A consumer as far as it asks where to begin; `starts` is what the facts hold."""

    def __init__(self, starts: dict[tuple[str, int], int | None]) -> None:
        self.transport = SimpleNamespace(starts=lambda topic, partition: starts[topic, partition])


@pytest.mark.parametrize(
    ("committed", "start", "begins"),
    [
        (7, 4, 4),  # the machine lost power: the facts hold less than the group has done
        (4, 7, 4),  # the worker was killed between the facts' commit and the group's
        (7, 0, 0),  # the facts hold nothing of it
        (0, 7, 0),
        (None, 7, 0),  # a group that never committed has done nothing
        (7, None, 7),  # what becomes no facts has the group's offset alone
        (None, None, 0),
    ],
)
async def test_a_partition_begins_where_group_and_facts_have_both_done_everything(
    committed: int | None, start: int | None, begins: int
) -> None:
    places: dict[Any, Any] = {TP("turns.served", 0): committed, TP("turns.served", 1): 9}
    consumer = Begin({("turns.served", 0): start, ("turns.served", 1): 9})
    assert await consumer._kept(places) == {TP("turns.served", 0): begins, TP("turns.served", 1): 9}
