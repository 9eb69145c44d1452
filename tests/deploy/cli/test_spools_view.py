"""What is left in spools is told with what sends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.cli.spools_view import abandoned_sentence
from deploy.state import State, open_state


@pytest.fixture
def state(tmp_path: Path) -> State:
    return open_state(tmp_path)


def test_where_a_gateway_runs_it_is_that_one_that_sends_them(state: State) -> None:
    with state.play("gateway"):
        assert "sends them within 10 s" in abandoned_sentence({"spool-2.db": 1_200}, state)
    said = abandoned_sentence({"spool-2.db": 1_200}, state)
    assert said.startswith("1,200 records in spool-2.db that gateways left")
    assert "start one (`trimtab up` or `trimtab gateway`)" in said


def test_one_that_can_not_be_read_is_named_by_itself_and_beside_others(state: State) -> None:
    assert abandoned_sentence({"spool.db": -1}, state) == "spool.db can't be read: is it a spool of this version?"
    both = abandoned_sentence({"spool.db": -1, "spool-2.db": 3}, state)
    assert both.startswith("3 records in spool-2.db")
    assert both.endswith("spool.db can't be read: is it a spool of this version?")
