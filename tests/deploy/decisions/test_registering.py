"""Candidates come into the list whole, and are sealed anew when things have changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.errors import Refused
from deploy.rules.weighing import Comparisons
from deploy.settings import ApproveSettings, Settings
from tests.deploy.candidates import make_candidate
from tests.deploy.decisions.approving import HOLD, approve, to_full
from tests.deploy.pairs import compared
from tests.fakes import ManualClock


def test_registering_again_changes_nothing(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    assert rules.register(digest) == rules.register(digest)
    assert [event["action"] for event in rules.show(digest)["history"]] == ["decide", "register"]


def test_a_directory_whose_files_were_changed_is_never_registered(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    weights = folder / digest / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    (problem,) = rules.discover()
    assert "changed after training" in problem
    assert rules.candidates() == []


def test_the_controller_seals_anew_what_waits_when_another_incumbent_serves(
    rules: Operations, clock: ManualClock, folder: Path
) -> None:
    one, two = make_candidate(folder, 1), make_candidate(folder, 2)
    rules.discover()
    to_full(rules, one)
    before = {view["digest"]: view["evidence"] for view in rules.candidates()}
    rules.reseal()
    views = {view["digest"]: view for view in rules.candidates()}
    assert "other_incumbent" in views[two]["gate"]["codes"]
    assert views[one]["evidence"] == before[one]
    rules.reseal()
    assert {view["digest"]: view["evidence"] for view in rules.candidates()} == {
        digest: view["evidence"] for digest, view in views.items()
    }


def test_where_nobody_wants_to_be_asked_a_pass_is_approved_by_the_rule_and_a_hold_is_not(
    control: Control, clock: ManualClock, folder: Path
) -> None:
    settings = Settings(approve=ApproveSettings(before=()))
    won = compared(180, 80)
    passing = make_candidate(folder, 1)
    rules = Operations(
        control,
        lambda: settings,
        folder,
        clock,
        lambda _, candidate, *__: won if candidate.digest == passing else Comparisons(),
    )
    held = make_candidate(folder, 2)
    assert rules.register(held)["state"] == "held"
    assert rules.register(passing)["state"] == "approved"
    assert rules.show(passing)["approvals"][0]["actor"] == "rule"


def test_a_seal_expires_and_looking_again_seals_anew(rules: Operations, clock: ManualClock, folder: Path) -> None:
    digest = make_candidate(folder)
    seal = rules.register(digest)["evidence"]
    clock.set_forward(48 * 3600)
    with pytest.raises(Refused, match="48 hours ago"):
        rules.approve(digest, evidence=seal, reason="r", actor="ada", override_hold=True)
    assert rules.show(digest)["evidence"] != seal
    with pytest.raises(Refused, match="48 hours ago"):  # it stays old, though there is a newer one
        rules.approve(digest, evidence=seal, reason="r", actor="ada", override_hold=True)
    with pytest.raises(Refused, match="is no seal of"):
        rules.approve(digest, evidence="0" * 64, reason="r", actor="ada", override_hold=True)
    assert approve(rules, digest, **HOLD)["state"] == "approved"


def test_looking_twice_at_the_same_evidence_shows_the_same_seal(
    rules: Operations, clock: ManualClock, folder: Path
) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    first = rules.show(digest)["evidence"]
    clock.set_forward(3600)
    assert rules.candidates()[0]["evidence"] == first


def test_what_was_sealed_while_the_clock_was_ahead_is_sealed_anew_when_it_is_back(
    rules: Operations, clock: ManualClock, folder: Path
) -> None:
    clock.set_forward(1_000 * 86_400)
    ahead = rules.register(digest := make_candidate(folder))["evidence"]
    clock.set_forward(-1_000 * 86_400)
    back = rules.show(digest)["evidence"]
    assert back != ahead
    assert rules.show(digest)["evidence"] == back
