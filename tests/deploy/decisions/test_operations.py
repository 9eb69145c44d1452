"""The rules as people meet them, on a real database and real candidate directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.control.store import Control, open_control
from deploy.decisions.operations import Operations
from deploy.errors import Failed, Refused
from deploy.serving_settings import EngineSettings
from deploy.settings import ApproveSettings, Settings
from tests.deploy.candidates import make_candidate
from tests.deploy.commands import FORKED
from tests.deploy.decisions.approving import HOLD, approve, to_full
from tests.fakes import CLOCK, ManualClock


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
    for _ in range(5):
        rules.promote(actor="ada")
        (view,) = rules.candidates()
        seen.append((view["state"], view["stage"], view["share"]))
    assert seen == [
        ("canary", "canary", 0.05),
        ("canary", "canary", 0.25),
        ("canary", "canary", 0.5),
        ("canary", "canary", 0.95),
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


def test_a_refused_rejection_names_the_rollback_that_takes_this_one_down_and_no_other(
    rules: Operations, folder: Path
) -> None:
    one = make_candidate(folder, 1)
    rules.register(one)
    to_full(rules, one)
    with pytest.raises(Refused, match="full: `trimtab rollback --incumbent`"):
        rules.reject(one, reason="r", actor="ada")
    two = make_candidate(folder, 2, incumbent=one)
    rules.register(two)
    to_full(rules, two)
    with pytest.raises(Refused) as refused:  # a rollback would take another one down
        rules.reject(one, reason="r", actor="ada")
    assert "superseded" in str(refused.value)
    assert "rollback" not in str(refused.value)


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
    outcomes = FORKED.Queue()
    seals = {view["digest"]: view["evidence"] for view in rules.candidates()}
    processes = [
        FORKED.Process(
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


def test_with_an_engine_that_takes_no_adapters_a_candidate_is_listed_and_goes_no_further(
    rules: Operations, folder: Path
) -> None:
    engine = EngineSettings(kind="openai", urls=("http://gpu-1:8000/v1",), model="m")
    without = Operations(rules.control, lambda: Settings(engine=engine), folder, CLOCK)
    digest = make_candidate(folder)
    without.register(digest)
    assert "approve" not in without.show(digest)["next"]
    with pytest.raises(Refused, match="this engine takes no adapters"):
        approve(without, digest, **HOLD)
    approve(rules, digest, **HOLD)
    with pytest.raises(Refused, match="this engine takes no adapters"):
        without.promote(actor="ada")
    assert without.serving()["next"].startswith("trimtab rollback --expect")
    without.rollback(actor="ada")
    assert "trimtab train" not in without.serving()["next"]


def test_with_an_engine_that_takes_no_adapters_no_rule_approves_a_candidate(
    judged_rules: Operations, folder: Path
) -> None:
    engine = EngineSettings(kind="openai", urls=("http://gpu-1:8000/v1",), model="m")
    settings = Settings(engine=engine, approve=ApproveSettings(before=()))
    judged_rules._settings = lambda: settings
    assert judged_rules.register(make_candidate(folder))["state"] == "passed"
    assert judged_rules.control.routing().candidate is None


def test_with_an_engine_that_takes_no_adapters_nothing_is_resumed_that_it_could_not_serve(
    rules: Operations, folder: Path
) -> None:
    engine = EngineSettings(kind="openai", urls=("http://gpu-1:8000/v1",), model="m")
    without = Operations(rules.control, lambda: Settings(engine=engine), folder, CLOCK)
    without.refuse_unservable()
    without.halt(actor="ada")
    assert not without.resume(actor="ada")["halted"], "the base is all that it serves"
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest, **HOLD)
    rules.promote(actor="ada")
    rules.pause(actor="ada")
    for refused in (without.refuse_unservable, lambda: without.resume(actor="ada")):
        with pytest.raises(Refused, match=r"this engine takes no adapters .* `trimtab rollback` takes it out"):
            refused()
    without.halt(actor="ada")
    without.refuse_unservable()  # the bare base serves everything
    with pytest.raises(Refused, match="this engine takes no adapters"):
        without.resume(actor="ada")
    assert without.serving()["halted"]
    assert "trimtab resume" not in without.serving()["next"]
    without.rollback(actor="ada")
    assert not without.resume(actor="ada")["halted"]


def test_who_halts_again_adds_a_reason_and_takes_none_away(rules: Operations) -> None:
    assert why(rules.halt(actor="ada", reason="it swears")) == [("ada", "it swears")]
    assert why(rules.halt(actor="ben")) == [("ada", "it swears")], "nothing new was said"
    both = [("ada", "it swears"), ("ben", "it mumbles")]
    assert why(rules.halt(actor="ben", reason="it mumbles")) == both
    assert why(rules.serving()) == both
    assert [(one["from"], one["to"]) for one in rules.history()] == [("halted", "halted"), ("serving", "halted")]
    assert why(rules.resume(actor="ada")) == []
    assert why(rules.halt(actor="eve", reason="again")) == [("eve", "again")]


def test_who_pauses_again_adds_a_reason_and_takes_none_away(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest, **HOLD)
    rules.promote(actor="ada")
    rules.pause(actor="ada", reason="it is weekend")
    again = rules.pause(actor="ben", reason="and a holiday")
    assert why(again) == [("ada", "it is weekend"), ("ben", "and a holiday")]
    assert rules.show(digest)["history"][0]["reason"] == "and a holiday"


def why(serving: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["actor"], one["reason"]) for one in serving["because"]]


def test_an_objection_blocks_approval_and_every_further_share_until_it_is_withdrawn(
    judged_rules: Operations, folder: Path
) -> None:
    digest = make_candidate(folder)
    judged_rules.register(digest)
    judged_rules.object(digest, reason="flatters\nwho is wrong", actor="eve")
    with pytest.raises(Refused, match=r"eve objects: flatters who is wrong\..*--withdraw"):
        approve(judged_rules, digest, **HOLD)
    (waits,) = judged_rules.serving()["objections"]
    assert (waits["candidate"], waits["actor"]) == (digest, "eve"), "status says so before there is any rollout"
    judged_rules.object(digest, reason="it was our prompt", actor="ada", withdraw=True)
    approve(judged_rules, digest)
    judged_rules.promote(actor="ada")
    judged_rules.object(digest, reason="tool calls break", actor="eve")
    judged_rules.object(digest, reason="so I see too", actor="bob")
    with pytest.raises(Refused, match="eve objects: tool calls break; bob objects: so I see too"):
        judged_rules.promote(actor="ada", reason="never mind", override_hold=True)
    serving = judged_rules.serving()
    assert [one["actor"] for one in serving["objections"]] == ["eve", "bob"]
    assert serving["rollout"]["share"] == 0.05, "what it serves it goes on to serve"
    judged_rules.object(digest, reason="mended", actor="bob", withdraw=True)
    judged_rules.promote(actor="ada")
    told = [(entry["action"], entry["actor"]) for entry in judged_rules.history(50, digest)]
    assert [one for one in told if one[0] in ("object", "withdraw")] == [
        ("withdraw", "bob"),
        ("object", "bob"),
        ("object", "eve"),
        ("withdraw", "ada"),
        ("object", "eve"),
    ]


def test_an_objection_and_its_end_need_a_reason_and_there_has_to_be_one_to_end(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    for withdraw in (False, True):
        with pytest.raises(Refused, match="needs a reason"):
            rules.object(digest, reason=" ", actor="eve", withdraw=withdraw)
    with pytest.raises(Refused, match="nobody objects"):
        rules.object(digest, reason="fine", actor="eve", withdraw=True)


def test_what_is_objected_to_can_still_be_taken_back(judged_rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    judged_rules.register(digest)
    approve(judged_rules, digest)
    judged_rules.promote(actor="ada")
    judged_rules.object(digest, reason="it swears", actor="eve")
    judged_rules.rollback(actor="eve")
    assert judged_rules.serving()["rollout"] is None
