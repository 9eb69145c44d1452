"""Steering: harm is rolled back by nobody's hand, a signal pauses and lets go, evidence moves on where it may, and each acts once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.control.records import RolloutLook
from deploy.control.store import Control, open_control
from deploy.decisions.operations import Operations
from deploy.decisions.steering import ACTOR, steer
from deploy.settings import Settings
from tests.deploy.candidates import make_candidate
from tests.deploy.conftest import WON
from tests.deploy.decisions.approving import approve
from tests.fakes import ManualClock


def begun(rules: Operations, folder: Path, shares: int = 1) -> str:
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest)
    for _ in range(shares):
        rules.promote(actor="ada")
    return digest


def look(rules: Operations, action: str, advance: str = "by hand") -> RolloutLook:
    serving = rules.serving()
    document = {"revision": serving["revision"], "action": action, "reasons": ["because"], "advance": advance}
    return RolloutLook(serving["rollout"]["id"], 1, document)


def test_harm_is_rolled_back_with_its_reason_in_the_history(judged_rules: Operations, folder: Path) -> None:
    digest = begun(judged_rules, folder)
    assert steer(judged_rules, look(judged_rules, "rollback")) == "rollback"
    assert judged_rules.serving()["rollout"] is None
    last = judged_rules.history(1, digest)[0]
    assert (last["actor"], last["action"], last["to"], last["reason"]) == (ACTOR, "rollback", "rolled_back", "because")


def test_of_two_controllers_one_acts(
    judged_rules: Operations, folder: Path, tmp_path: Path, clock: ManualClock
) -> None:
    digest = begun(judged_rules, folder)
    saw = look(judged_rules, "rollback")
    control = open_control(tmp_path / "control.db")
    other = Operations(control, Settings, folder, clock, lambda *_: WON)
    assert [steer(judged_rules, saw), steer(other, saw)] == ["rollback", None]
    control.close()
    assert [entry["action"] for entry in judged_rules.history(50, digest)].count("rollback") == 1


def test_what_was_seen_before_somebody_acted_moves_nothing(judged_rules: Operations, folder: Path) -> None:
    begun(judged_rules, folder)
    saw = look(judged_rules, "promote", "by evidence")
    judged_rules.promote(actor="ada")
    assert steer(judged_rules, saw) is None
    assert judged_rules.serving()["rollout"]["share"] == 0.25


def test_a_signal_pauses_and_when_it_is_gone_the_controller_lets_go(judged_rules: Operations, folder: Path) -> None:
    begun(judged_rules, folder)
    assert steer(judged_rules, look(judged_rules, "pause")) == "pause"
    assert judged_rules.serving()["because"][0]["actor"] == ACTOR
    assert steer(judged_rules, look(judged_rules, "pause")) is None
    assert steer(judged_rules, look(judged_rules, "hold")) is None
    assert steer(judged_rules, look(judged_rules, "wait")) == "resume"
    assert judged_rules.serving()["rollout"]["state"] == "canary"


def test_what_a_person_paused_stays_paused_and_harm_ends_it_all_the_same(
    judged_rules: Operations, folder: Path
) -> None:
    begun(judged_rules, folder)
    judged_rules.pause(actor="ada", reason="lunch")
    for action in ("wait", "advance", "promote"):
        assert steer(judged_rules, look(judged_rules, action, "by evidence")) is None
    assert steer(judged_rules, look(judged_rules, "rollback")) == "rollback"


@pytest.mark.parametrize(("advance", "step", "share"), [("by hand", None, 0.05), ("by evidence", "promote", 0.25)])
def test_evidence_moves_on_only_where_it_may(
    judged_rules: Operations, folder: Path, advance: str, step: str | None, share: float
) -> None:
    begun(judged_rules, folder)
    assert steer(judged_rules, look(judged_rules, "advance", advance)) == step
    assert judged_rules.serving()["rollout"]["share"] == share


def test_an_approval_begins_by_itself_where_evidence_moves_on(judged_rules: Operations, folder: Path) -> None:
    begun(judged_rules, folder, shares=0)
    assert steer(judged_rules, look(judged_rules, "advance", "by evidence")) == "promote"
    assert judged_rules.serving()["rollout"]["share"] == 0.05


def test_while_everything_is_halted_and_after_the_rollout_nothing_is_done(
    judged_rules: Operations, folder: Path, control: Control
) -> None:
    begun(judged_rules, folder)
    saw = look(judged_rules, "rollback")
    judged_rules.halt(actor="ada", reason="look at this")
    assert steer(judged_rules, look(judged_rules, "rollback")) is None
    judged_rules.resume(actor="ada", reason="fine")
    assert steer(judged_rules, replace(saw, rollout_id="another")) is None
    judged_rules.rollback(actor="ada")
    assert steer(judged_rules, saw) is None


def test_an_objection_stops_what_evidence_would_move_on(judged_rules: Operations, folder: Path) -> None:
    digest = begun(judged_rules, folder)
    judged_rules.object(digest, reason="read the samples", actor="eve")
    assert steer(judged_rules, look(judged_rules, "advance", "by evidence")) is None
    assert judged_rules.serving()["rollout"]["share"] == 0.05
    assert steer(judged_rules, look(judged_rules, "rollback")) == "rollback"
