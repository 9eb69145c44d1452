"""Evidence moves: what was approved stands while only figures do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.errors import Refused
from deploy.rules.weighing import Comparisons
from deploy.settings import GateSettings, RolloutSettings, Settings
from tests.deploy.candidates import make_candidate
from tests.deploy.decisions.approving import HOLD, approve, to_full
from tests.deploy.pairs import compared
from tests.fakes import ManualClock


def test_a_new_incumbent_makes_the_evidence_of_others_stale(rules: Operations, folder: Path) -> None:
    one, two = make_candidate(folder, 1), make_candidate(folder, 2)
    rules.discover()
    seal = rules.show(two)["evidence"]
    to_full(rules, one)
    with pytest.raises(Refused, match=r"evidence has changed .*incumbent"):
        rules.approve(two, evidence=seal, reason="r", actor="ada", override_hold=True)
    assert any("but " + one[:12] in reason for reason in rules.show(two)["gate"]["reasons"])


def test_an_approval_is_judged_by_the_policy_that_was_sealed_whatever_is_configured_later(
    control: Control, clock: ManualClock, folder: Path
) -> None:
    current = [Settings()]
    rules = Operations(control, lambda: current[0], folder, clock, lambda *_: compared(180, 80))
    digest = make_candidate(folder)
    rules.register(digest)
    seal = rules.show(digest)["evidence"]
    current[0] = Settings(gate=GateSettings(max_repetition=0.01), rollout=RolloutSettings(shares=(0.5, 1.0)))
    rules.approve(digest, evidence=seal, reason="r", actor="ada")
    assert rules.promote(actor="ada")["rollout"]["share"] == 0.05
    current[0] = Settings(gate=GateSettings(max_repetition=0.01), rollout=RolloutSettings(shares=(1.0,)))
    assert rules.promote(actor="ada")["rollout"]["share"] == 0.25


def test_comparisons_that_come_in_make_no_approval_impossible(
    control: Control, clock: ManualClock, folder: Path
) -> None:
    so_far = [compared(180, 80)]
    rules = Operations(control, Settings, folder, clock, lambda *_: so_far[0])
    digest = make_candidate(folder)
    rules.register(digest)
    seal = rules.show(digest)["evidence"]
    so_far[0] = compared(180, 81)
    rules.approve(digest, evidence=seal, reason="r", actor="ada")
    so_far[0] = compared(181, 82)
    assert rules.promote(actor="ada")["rollout"]["share"] == 0.05


def test_each_step_asks_the_gate_again_and_a_person_may_go_on_with_a_reason(
    control: Control, clock: ManualClock, folder: Path
) -> None:
    so_far = [compared(180, 80)]
    rules = Operations(control, Settings, folder, clock, lambda *_: so_far[0])
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest)
    rules.promote(actor="ada")
    so_far[0] = compared(180, 200)
    with pytest.raises(Refused, match="the gate would hold"):
        rules.promote(actor="ada")
    so_far[0] = compared(180, 400)
    with pytest.raises(Refused, match="the gate would reject"):
        rules.promote(actor="ada")
    with pytest.raises(Refused, match="needs a reason"):
        rules.promote(actor="ada", override_hold=True)
    assert rules.serving()["rollout"]["share"] == 0.05
    rules.promote(actor="bob", override_hold=True, reason="the raters were drunk")
    assert rules.serving()["rollout"]["share"] == 0.25
    newest, first = rules.show(digest)["approvals"]
    assert (newest["actor"], newest["override_hold"], first["override_hold"]) == ("bob", True, False)
    assert newest["seal"] != first["seal"]


def test_an_approval_whose_reasons_changed_before_the_first_share_has_to_be_given_anew(
    control: Control, clock: ManualClock, folder: Path
) -> None:
    so_far = [Comparisons()]
    rules = Operations(control, Settings, folder, clock, lambda *_: so_far[0])
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest, **HOLD)
    so_far[0] = Comparisons(lineage_unknown="the snapshot is gone")
    with pytest.raises(Refused, match=r"no longer what was approved .*lineage_unknown came"):
        rules.promote(actor="ada")
    approve(rules, digest, **HOLD)
    assert rules.promote(actor="ada")["rollout"]["share"] == 0.05


def test_who_overrode_that_comparisons_are_few_does_not_do_so_again_with_every_label(
    control: Control, clock: ManualClock, folder: Path
) -> None:
    so_far = [Comparisons()]
    rules = Operations(control, Settings, folder, clock, lambda *_: so_far[0])
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest, **HOLD)
    so_far[0] = compared(6, 5)
    assert rules.promote(actor="ada")["rollout"]["share"] == 0.05


def test_a_report_that_was_changed_afterwards_is_rejected(judged_rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    seal = judged_rules.register(digest)["evidence"]
    report = folder / digest / "report.json"
    report.write_text(report.read_text().replace('"repetition": 0.05', '"repetition": 0.01'))
    with pytest.raises(Refused, match=r"report\.json was changed"):
        judged_rules.approve(digest, evidence=seal, reason="r", actor="ada", override_hold=True)
    assert judged_rules.show(digest)["state"] == "rejected"


def test_a_candidate_that_was_rolled_back_needs_a_new_approval_that_knows_of_it(
    rules: Operations, folder: Path
) -> None:
    digest = make_candidate(folder)
    seal = rules.register(digest)["evidence"]
    approve(rules, digest, **HOLD)
    rules.rollback(actor="ada")
    with pytest.raises(Refused, match=r"evidence has changed .*rolled_back came"):
        rules.approve(digest, evidence=seal, reason="r", actor="ada", override_hold=True)
    assert approve(rules, digest, **HOLD)["state"] == "approved"


HUGE = 10**400  # no float holds it, nor does a database


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"snapshot": "\ud83d"}, "its report.json is missing or is not JSON"),
        ({"created_at_us": HUGE}, "is not a candidate's report"),
        ({"created_at_us": 10**30}, "is not a candidate's report"),
        ({"created_at_us": -(10**30)}, "is not a candidate's report"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_report_that_can_t_be_kept_is_told_and_the_next_candidate_is_found(
    rules: Operations, folder: Path, changes: dict[str, Any], why: str
) -> None:
    broken, sound = make_candidate(folder, 1, **changes), make_candidate(folder, 2)
    (told,) = rules.discover()
    assert rules.show(sound)["digest"] == sound
    assert broken[:12] in told
    assert why in told


def test_a_figure_that_no_float_holds_is_rejected_by_its_name(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder, 1, reward_model={"metric": "pairs", "holdout": 3, "majority_baseline": HUGE})
    shown = rules.register(digest)
    assert shown["state"] == "rejected"
    assert "reward_model.majority_baseline" in shown["gate"]["reasons"][0]
