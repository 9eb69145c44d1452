"""The rules as people meet them, on a real database and real candidate directories."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from deploy.control.history import first_broken
from deploy.control.records import UnknownCandidate
from deploy.control.store import Control, open_control
from deploy.decisions.operations import Operations
from deploy.errors import Failed, Refused
from deploy.rules.gate import Comparisons
from deploy.settings import ApproveSettings, GateSettings, RolloutSettings, Settings
from tests.deploy.candidates import make_candidate
from tests.fakes import CLOCK, ManualClock

HOLD = {"override_hold": True}


def approve(rules: Operations, digest: str, **changes: Any) -> dict[str, Any]:
    arguments = {"evidence": rules.show(digest)["evidence"], "reason": "reads well", "actor": "ada"} | changes
    return rules.approve(digest, **arguments)


def to_full(rules: Operations, digest: str) -> None:
    approve(rules, digest, **HOLD)
    while rules.serving()["rollout"]:
        rules.promote(actor="ada")


def test_a_new_candidate_is_listed_with_the_gates_decision_and_its_seal(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    (view,) = rules.candidates()
    assert view == {
        "digest": digest,
        "created_at": "2023-11-14T22:13:20Z",
        "snapshot": "s-1",
        "state": "held",
        "stage": "gate",
        "share": 0.0,
        "gate": {
            "decision": "hold",
            "reasons": ["0 blind comparisons of 200 needed: hold"],
            "codes": ["too_few_comparisons"],
        },
        "evidence": view["evidence"],
        "evidence_age_s": 0,
    }
    assert len(view["evidence"]) == 64


def test_registering_again_changes_nothing(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    assert rules.register(digest) == rules.register(digest)
    assert [event["action"] for event in rules.show(digest)["history"]] == ["decide", "register"]


def test_candidates_are_listed_newest_first(rules: Operations, folder: Path) -> None:
    old, new = make_candidate(folder, 1, created_at_us=1), make_candidate(folder, 2, created_at_us=2)
    assert rules.discover() == []
    assert [view["digest"] for view in rules.candidates()] == [new, old]


def test_a_directory_whose_files_were_changed_is_never_registered(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    weights = folder / digest / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    (problem,) = rules.discover()
    assert "changed after training" in problem
    assert rules.candidates() == []


def test_a_unique_prefix_is_enough_and_others_name_the_matches(rules: Operations, folder: Path) -> None:
    digests = [make_candidate(folder, seed) for seed in range(20)]
    rules.discover()
    assert rules.show(digests[0][:10])["digest"] == digests[0]
    assert rules.show(f"tt-{digests[0][:16]}")["digest"] == digests[0]
    twice = next(a[0] for a in digests if sum(b[0] == a[0] for b in digests) > 1)
    with pytest.raises(UnknownCandidate, match=f"more than one candidate begins with '{twice}': {twice}"):
        rules.show(twice)
    for unknown in ("xyz", "", "%", "_" * 64):
        with pytest.raises(UnknownCandidate, match="there is no candidate"):
            rules.show(unknown)


def test_a_hold_is_approved_only_with_override_and_reason(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    with pytest.raises(Refused, match="--override-hold"):
        approve(rules, digest)
    with pytest.raises(Refused, match="needs a reason"):
        approve(rules, digest, reason=" \n", **HOLD)
    assert rules.control.routing().candidate is None
    view = approve(rules, digest, **HOLD)
    assert (view["state"], view["stage"], view["share"]) == ("approved", "approval", 0.0)
    (recorded,) = rules.show(digest)["approvals"]
    assert (recorded["actor"], recorded["reason"], recorded["override_hold"]) == ("ada", "reads well", True)


def test_a_pass_is_approved_without_override(judged_rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    assert judged_rules.register(digest)["state"] == "passed"
    assert approve(judged_rules, digest)["state"] == "approved"


def test_a_reject_is_never_approved(judged_rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder, probes={"largest_difference": 0.0})
    assert judged_rules.register(digest)["state"] == "rejected"
    with pytest.raises(Refused, match="nobody can approve it: no-op"):
        approve(judged_rules, digest, **HOLD)


def test_promote_moves_share_by_share_to_the_incumbent(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest, **HOLD)
    seen = []
    for _ in range(4):
        rules.promote(actor="ada")
        (view,) = rules.candidates()
        seen.append((view["state"], view["stage"], view["share"]))
    assert seen == [
        ("canary", "canary", 0.05),
        ("canary", "canary", 0.25),
        ("canary", "canary", 0.5),
        ("full", "full", 1.0),
    ]
    assert rules.control.routing().incumbent == digest
    with pytest.raises(Refused, match="no rollout is under way"):
        rules.promote(actor="ada")


def test_a_second_rollout_waits_for_the_first(rules: Operations, folder: Path) -> None:
    one, two = make_candidate(folder, 1), make_candidate(folder, 2)
    rules.discover()
    approve(rules, one, **HOLD)
    with pytest.raises(Refused, match="a rollout is under way"):
        approve(rules, two, **HOLD)


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
    rules = Operations(control, lambda: current[0], folder, clock, lambda *_: Comparisons(wins=180, losses=80))
    digest = make_candidate(folder)
    rules.register(digest)
    seal = rules.show(digest)["evidence"]
    current[0] = Settings(gate=GateSettings(min_comparisons=300), rollout=RolloutSettings(shares=(0.5, 1.0)))
    rules.approve(digest, evidence=seal, reason="r", actor="ada")
    assert rules.promote(actor="ada")["rollout"]["share"] == 0.05
    current[0] = Settings(gate=GateSettings(min_comparisons=300), rollout=RolloutSettings(shares=(1.0,)))
    assert rules.promote(actor="ada")["rollout"]["share"] == 0.25


def test_comparisons_that_come_in_make_no_approval_impossible(
    control: Control, clock: ManualClock, folder: Path
) -> None:
    so_far = [Comparisons(wins=180, losses=80)]
    rules = Operations(control, Settings, folder, clock, lambda *_: so_far[0])
    digest = make_candidate(folder)
    rules.register(digest)
    seal = rules.show(digest)["evidence"]
    so_far[0] = Comparisons(wins=180, losses=81)
    rules.approve(digest, evidence=seal, reason="r", actor="ada")
    so_far[0] = Comparisons(wins=181, losses=82)
    assert rules.promote(actor="ada")["rollout"]["share"] == 0.05


def test_each_step_asks_the_gate_again_and_a_person_may_go_on_with_a_reason(
    control: Control, clock: ManualClock, folder: Path
) -> None:
    so_far = [Comparisons(wins=180, losses=80)]
    rules = Operations(control, Settings, folder, clock, lambda *_: so_far[0])
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest)
    rules.promote(actor="ada")
    so_far[0] = Comparisons(wins=180, losses=200)
    with pytest.raises(Refused, match="the gate would hold"):
        rules.promote(actor="ada")
    so_far[0] = Comparisons(wins=180, losses=400)
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
    so_far[0] = Comparisons(wins=110, losses=100)
    with pytest.raises(Refused, match=r"no longer what was approved .*may_be_chance came"):
        rules.promote(actor="ada")
    approve(rules, digest, **HOLD)
    assert rules.promote(actor="ada")["rollout"]["share"] == 0.05


def test_looking_writes_nothing(
    control: Control, clock: ManualClock, folder: Path, rules: Operations, tmp_path: Path
) -> None:
    digests = [make_candidate(folder, seed) for seed in range(3)]
    rules.register(digests[0])
    clock.set_forward(72 * 3600)
    with control.read() as tx:
        before = tx.connection.execute(text("PRAGMA data_version")).scalar(), tx.history(), tx.digests()
        rules.candidates()
        rules.serving()
        rules.history()
        rules.periods()
        rules.unregistered()
        assert (tx.connection.execute(text("PRAGMA data_version")).scalar(), tx.history(), tx.digests()) == before
    (view,) = rules.candidates()
    assert view["evidence_age_s"] == 72 * 3600


def test_the_list_comes_in_pages(rules: Operations, folder: Path) -> None:
    made = [make_candidate(folder, seed, created_at_us=seed // 2) for seed in range(7)]
    assert rules.discover() == []
    seen, after = list[str](), None
    while page := rules.candidates(3, after):
        seen += [view["digest"] for view in page]
        after = seen[-1]
    assert sorted(seen) == sorted(made)
    assert seen == [view["digest"] for view in rules.candidates(None)]


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


def test_a_command_that_was_meant_for_another_state_is_refused(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest, **HOLD)
    meant = rules.serving()["revision"]
    rules.promote(actor="ada", expect=meant)
    with pytest.raises(Refused, match="meant for another state"):
        rules.promote(actor="ada", expect=meant)
    with pytest.raises(Refused, match="meant for another state"):
        rules.rollback(actor="ada", expect=meant)
    assert rules.serving()["rollout"]["share"] == 0.05


def test_rolling_back_twice_leaves_the_incumbent(rules: Operations, folder: Path) -> None:
    one = make_candidate(folder, 1)
    rules.register(one)
    to_full(rules, one)
    two = make_candidate(folder, 2, incumbent=one)
    rules.register(two)
    approve(rules, two, **HOLD)
    rules.promote(actor="ada")
    rules.rollback(actor="ada")
    with pytest.raises(Refused, match="add --incumbent"):
        rules.rollback(actor="ada")
    assert rules.serving()["incumbent"] == one


def test_shares_and_their_periods_can_be_asked_for(rules: Operations, clock: ManualClock, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest, **HOLD)
    for _ in range(2):
        clock.set_forward(3600)
        rules.promote(actor="ada")
    clock.set_forward(60)
    rules.halt(actor="ben", reason="smoke")
    clock.set_forward(60)
    rules.resume(actor="ben")
    clock.set_forward(3600)
    rules.rollback(actor="ada")
    told = [(period["candidate"], period["share"], period["halted"]) for period in reversed(rules.periods())]
    assert told == [
        (None, 0.0, False),
        (digest, 0.05, False),
        (digest, 0.25, False),
        (digest, 0.25, True),
        (digest, 0.25, False),
        (None, 0.0, False),
    ]
    periods = list(reversed(rules.periods()))
    assert [period["to"] for period in periods[:-1]] == [period["from"] for period in periods[1:]]
    assert periods[-1]["to"] is None
    assert [period["share"] for period in rules.show(digest)["shares"]] == [0.25, 0.25, 0.25, 0.05]


def test_an_approval_expires_before_the_first_share(rules: Operations, clock: ManualClock, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest, **HOLD)
    clock.set_forward(48 * 3600)
    with pytest.raises(Refused, match="expired"):
        rules.promote(actor="ada")
    approve(rules, digest, **HOLD)
    assert rules.promote(actor="ada")["rollout"]["state"] == "canary"
    assert len(rules.show(digest)["approvals"]) == 2


def test_a_report_that_was_changed_afterwards_is_rejected(judged_rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    seal = judged_rules.register(digest)["evidence"]
    report = folder / digest / "report.json"
    report.write_text(report.read_text().replace('"repetition": 0.05', '"repetition": 0.01'))
    with pytest.raises(Refused, match=r"report\.json was changed"):
        judged_rules.approve(digest, evidence=seal, reason="r", actor="ada", override_hold=True)
    assert judged_rules.show(digest)["state"] == "rejected"


def test_weights_that_were_changed_afterwards_are_neither_approved_nor_promoted(
    rules: Operations, folder: Path
) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest, **HOLD)
    (folder / digest / "adapter" / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(Failed, match="can't be used"):
        rules.promote(actor="ada")
    with pytest.raises(Failed, match="can't be used"):
        approve(rules, digest, **HOLD)
    assert rules.control.routing().candidate is None


def test_a_person_rejects_for_good(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    with pytest.raises(Refused, match="needs a reason"):
        rules.reject(digest, reason="", actor="ada")
    assert rules.reject(digest, reason="invents numbers", actor="ada")["state"] == "rejected"
    with pytest.raises(Refused, match="rejected by ada"):
        approve(rules, digest, **HOLD)


def test_what_is_under_way_is_rolled_back_and_not_rejected(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest, **HOLD)
    with pytest.raises(Refused, match="rollback"):
        rules.reject(digest, reason="r", actor="ada")
    rules.promote(actor="ada")
    rules.rollback(actor="bob", reason="wrong language")
    (view,) = rules.candidates()
    assert (view["state"], view["stage"], view["share"]) == ("rolled_back", "canary", 0.0)


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


def test_a_rollback_of_the_incumbent_brings_the_earlier_one_back(rules: Operations, folder: Path) -> None:
    one = make_candidate(folder, 1)
    rules.register(one)
    to_full(rules, one)
    two = make_candidate(folder, 2, incumbent=one)
    rules.register(two)
    to_full(rules, two)
    states = {view["digest"]: view["state"] for view in rules.candidates()}
    assert states == {one: "superseded", two: "full"}
    assert rules.rollback(actor="ada", incumbent=True)["incumbent"] == one
    states = {view["digest"]: view["state"] for view in rules.candidates()}
    assert states == {one: "full", two: "rolled_back"}


def test_halt_works_beside_a_broken_configuration(rules: Operations, control: Control, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    to_full(rules, digest)

    def broken() -> Settings:
        raise Failed("trimtab.toml is not valid TOML")

    operator = Operations(control, broken, folder, CLOCK)
    for _ in range(2):
        assert operator.halt(actor="ada", reason="all wrong")["halted"]
    assert control.routing().halted
    assert rules.candidates()[0]["state"] == "halted"
    assert rules.candidates()[0]["share"] == 0.0
    assert not operator.resume(actor="ada")["halted"]
    assert rules.candidates()[0]["state"] == "full"


def test_every_change_is_in_the_history_with_who_and_why(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest, **HOLD)
    rules.promote(actor="bob", reason="\x1b[31mred\n alert")
    rules.pause(actor="bob")
    rules.halt(actor="eve", reason="panic")
    told = [(e.actor, e.action, e.before, e.after, e.reason) for e in reversed(rules.control.history())]
    assert told[2:] == [
        ("ada", "approve", "held", "approved", "reads well"),
        ("bob", "promote", "approved", "canary", "\ufffd[31mred alert"),
        ("bob", "pause", "canary", "paused", ""),
        ("eve", "halt", "serving", "halted", "panic"),
    ]
    shares = [event["data"]["share"] for event in rules.history() if event["action"] in ("promote", "pause")]
    assert shares == [0.05, 0.05]
    with rules.control.database.read() as connection:
        assert first_broken(connection) is None


def test_where_nobody_wants_to_be_asked_a_pass_is_approved_by_the_rule_and_a_hold_is_not(
    control: Control, clock: ManualClock, folder: Path
) -> None:
    settings = Settings(approve=ApproveSettings(before=()))
    won = Comparisons(wins=180, losses=80)
    passing = make_candidate(folder, 1)
    rules = Operations(
        control, lambda: settings, folder, clock, lambda digest, _: won if digest == passing else Comparisons()
    )
    held = make_candidate(folder, 2)
    assert rules.register(held)["state"] == "held"
    assert rules.register(passing)["state"] == "approved"
    assert rules.show(passing)["approvals"][0]["actor"] == "rule"


def test_a_report_with_numbers_that_are_none_can_still_be_shown(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder, probes={"largest_difference": float("nan")})
    rules.register(digest)
    view = rules.show(digest)
    assert view["report"]["probes"]["largest_difference"] is None
    assert view["gate"]["reasons"] == ["not finite: probes.largest_difference"]
    json.dumps(view, allow_nan=False)


def test_a_candidate_whose_directory_is_gone_is_still_listed(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    (folder / digest).rename(folder.parent / "elsewhere")
    assert rules.candidates()[0]["state"] == "held"
    assert rules.show(digest)["report"] is None
    with pytest.raises(Failed, match="can't be used"):
        approve(rules, digest, **HOLD)


def _approve_in_a_process(where: str, folder: str, digest: str, seal: str, outcomes: Any) -> None:
    rules = Operations(open_control(Path(where)), Settings, Path(folder), CLOCK)
    try:
        rules.approve(digest, evidence=seal, reason="race", actor=digest[:4], override_hold=True)
        outcomes.put("approved")
    except Refused:
        outcomes.put("refused")


@pytest.mark.slow
def test_of_processes_that_approve_at_once_exactly_one_wins(tmp_path: Path, control: Control, folder: Path) -> None:
    rules = Operations(control, Settings, folder, CLOCK)
    digests = [make_candidate(folder, seed) for seed in range(3)]
    rules.discover()
    spawn = multiprocessing.get_context("spawn")
    outcomes = spawn.Queue()
    seals = {view["digest"]: view["evidence"] for view in rules.candidates()}
    processes = [
        spawn.Process(
            target=_approve_in_a_process,
            args=(str(tmp_path / "control.db"), str(folder), digest, seals[digest], outcomes),
        )
        for digest in digests
    ]
    for process in processes:
        process.start()
    answers = sorted(outcomes.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    assert answers == ["approved", "refused", "refused"]
    assert sum(view["state"] == "approved" for view in rules.candidates()) == 1
