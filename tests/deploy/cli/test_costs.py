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
from tests.deploy.cli.test_common import document, typed
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

    def printed(*words: str) -> str:
        code = common.run(lambda: trimtab.main([*words, "--state", str(state.root)], standalone_mode=False))
        assert code == common.DONE
        return capsys.readouterr().out

    (day,) = json.loads(printed("costs", "--json"))["days"]
    assert day == {"day": hour_of(at_us)[:10], "questions": 2, "usd": 0.75, "unsettled_usd": 0.25}
    shown = [" ".join(line.split()) for line in printed("costs").splitlines()]
    assert f"{hour_of(at_us)[:10]} 2 0.7500 0.2500" in shown


def test_a_service_that_asked_nothing_has_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = open_state(tmp_path / "state").root
    told = document(root, "costs")
    assert (told["hour"]["spent_usd"], told["day"]["spent_usd"], told["days"]) == (0, 0, [])
    assert (told["verdicts"], told["usd_per_verdict"]) == (0, None)
    code, out, _ = typed(root, "costs")
    assert (code, "a verdict" in out, "not settled" in out) == (0, False, False)


def test_the_budget_that_is_left_is_the_configured_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trimtab.toml").write_text("[judge]\nusd_per_hour = 0.5\nusd_per_day = 3")
    out = typed(open_state(tmp_path / "state").root, "costs")[1]
    assert "this hour 0.0000 of 0.50 USD (judge.usd_per_hour)" in out
    assert "today 0.0000 of 3.00 USD (judge.usd_per_day)" in out
