"""What is checked row by row is what a commit takes."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.facts.tables import Batch, Row, check
from feedback.facts.writer import _arrow
from tests.feedback.facts.test_reader import UNJUDGED
from tests.feedback.facts.test_writer import START_US, turn

times = st.integers() | st.sampled_from([0, -1, 2**62, 2**62 + 1, 2**63 - 1, 2**63, -(2**62), -(2**63), 2**64])
texts = st.text() | st.just("\ud800") | st.just("\x00")


@given(times, times, texts, texts, st.booleans())
def test_a_row_that_passes_the_check_can_be_committed(
    at_us: int, received_at_us: int, tenant: str, id_: str, judged: bool
) -> None:
    event = msgspec.structs.replace(UNJUDGED if judged else turn(1), tenant=tenant, occurred_at_us=at_us)
    event = msgspec.structs.replace(event, **{"verdict_id" if judged else "event_id": id_})
    row = Row(event, "h", "d", 0, received_at_us)
    with contextlib.suppress(ValueError, OverflowError):
        check(row)
        assert _arrow([(Batch("turns.served", 0, (row,), 1), row)], {"turns.served": "log"}).num_rows == 1
        return
    with pytest.raises((ValueError, OverflowError)):
        check(row)


@pytest.mark.parametrize("at_us", [0, START_US, -1, 2**62])
def test_ordinary_times_pass(at_us: int) -> None:
    check(Row(msgspec.structs.replace(turn(1), occurred_at_us=at_us), "h", "d", 0, -1_000))
