"""`trimtab costs`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli import common, trimtab
from deploy.control.ledger import SqlLedger
from deploy.control.store import open_control
from deploy.state import open_state
from feedback.judge.ledger import Budget, Reservation, hour_of
from tests.fakes import CLOCK


def test_the_costs_say_how_much_was_never_settled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common.stdout, "_width", 200)
    state, at_us = open_state(tmp_path / "state"), CLOCK.now_us()
    control = open_control(state.control)
    ledger = SqlLedger(control.database, Budget(10.0, 10.0))
    answered, lost = ledger.reserve(1.0, at_us), ledger.reserve(0.25, at_us)
    assert isinstance(answered, Reservation)
    assert isinstance(lost, Reservation)
    ledger.settle(answered.id, 0.5)
    control.close()

    def typed(*words: str) -> str:
        code = common.run(lambda: trimtab.main([*words, "--state", str(state.root)], standalone_mode=False))
        assert code == common.DONE
        return capsys.readouterr().out

    (day,) = json.loads(typed("costs", "--json"))["days"]
    assert day == {"day": hour_of(at_us)[:10], "questions": 2, "usd": 0.75, "unsettled_usd": 0.25}
    shown = [" ".join(line.split()) for line in typed("costs").splitlines()]
    assert f"{hour_of(at_us)[:10]} 2 0.7500 0.2500" in shown
