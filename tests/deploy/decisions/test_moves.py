"""Moves: what a command did is stored together with the history that tells of it, or not at all."""

from __future__ import annotations

import pytest

from deploy.control.records import Candidate, Seal
from deploy.control.store import Control
from deploy.decisions import moves
from deploy.errors import Refused
from deploy.rules.rollout import Command, Halt, Pause, Promote, Rollback, Serving

A, B = "a" * 64, "b" * 64
SHARES = Promote((0.05, 1.0), 100)


@pytest.fixture
def control(control: Control) -> Control:
    """With two candidates that passed, each with its seal."""
    with control.change() as tx:
        for digest in (A, B):
            tx.add_candidate(Candidate(digest, "s", "sha256:0", "0", 1, 1, "passed", "approval"))
            tx.add_seal(Seal(digest, digest, "pass", (), {}, 1, 2))
    return control


def start(control: Control, digest: str, now: int = 1, reason: str = "better") -> None:
    with control.change() as tx:
        moves.start(tx, tx.candidate(digest), tx.seal(digest), "ada", reason, False, now)


def apply(control: Control, command: Command, action: str, now: int = 2) -> Serving:
    with control.change() as tx:
        return moves.apply(tx, tx.serving(), command, action, "ada", "why", now)


def told(control: Control) -> list[tuple[str, str | None, str | None, str | None]]:
    return [(e.action, e.subject, e.before, e.after) for e in reversed(control.history())]


def test_an_approval_starts_a_rollout_that_history_approval_and_serving_all_name(control: Control) -> None:
    start(control, A)
    (entry,) = control.history()
    with control.read() as tx:
        (approval,) = tx.approvals(A)
        rollout = tx.serving().rollout
        assert tx.candidate(A).state == "approved"
    assert rollout is not None
    assert (approval.rollout_id, approval.seal) == (rollout.id, A)
    assert entry.data == {"share": 0.0, "rollout": rollout.id}
    assert (entry.before, entry.after, entry.reason) == ("passed", "approved", "better")


def test_every_rollout_gets_a_salt_of_its_own_that_nothing_tells_and_keeps_it(control: Control) -> None:
    salts = []
    for digest in (A, B):
        start(control, digest)
        for step in (lambda digest=digest: start(control, digest, now=50), lambda: apply(control, SHARES, "promote")):
            step()
            with control.read() as tx:
                rollout = tx.serving().rollout
            assert rollout is not None
            salts.append(rollout.salt)
            assert control.routing().salt in (None, rollout.salt)
        assert control.routing().salt == salts[-1]
        apply(control, Rollback(), "rollback")
    assert salts == [salts[0], salts[0], salts[2], salts[2]]
    assert {len(bytes.fromhex(salt or "")) for salt in salts} == {32}
    assert salts[0] != salts[2]
    with control.read() as tx:
        told = repr([tx.history(), tx.periods(), tx.approvals(A), tx.candidates(), tx.serving(), control.routing()])
    assert not any(salt in told for salt in salts if salt is not None)


def test_a_yes_that_was_said_again_is_on_record_for_the_same_rollout(control: Control) -> None:
    start(control, A)
    start(control, A, now=50, reason="still better")
    with control.read() as tx:
        again, first = tx.approvals(A)
        rollout = tx.serving().rollout
    assert rollout is not None
    assert (again.rollout_id, first.rollout_id, rollout.approved_at_us) == (rollout.id, rollout.id, 50)
    newest = control.history()[0]
    assert (newest.before, newest.after, newest.reason) == ("approved", "approved", "still better")
    assert newest.data == {"rollout": rollout.id, "seal": A, "override_hold": False, "share": 0.0}


def test_a_new_incumbent_and_the_one_that_it_supersedes_are_both_told(control: Control) -> None:
    for digest in (A, B):
        start(control, digest)
        apply(control, SHARES, "promote")
        apply(control, SHARES, "promote")
    assert told(control)[-2:] == [("promote", B, "canary", "full"), ("promote", A, "full", "superseded")]
    full, superseded = control.history()[1].data, control.history()[0].data
    assert full is not None
    assert superseded == {"share": 0.0}  # it is no part of that rollout
    assert (full["share"], len(full["rollout"])) == (1.0, 18)
    with control.read() as tx:
        assert [(one.state, one.stage) for one in (tx.candidate(A), tx.candidate(B))] == [
            ("superseded", "full"),
            ("full", "full"),
        ]


def test_a_halt_is_told_of_the_whole_service_and_again_it_is_told_no_more(control: Control) -> None:
    for _ in range(2):
        assert apply(control, Halt(), "halt").halted
    assert told(control) == [("halt", None, "serving", "halted")]


def test_a_rolled_back_candidate_keeps_the_stage_that_it_came_to(control: Control) -> None:
    start(control, A)
    apply(control, SHARES, "promote")
    apply(control, Rollback(), "rollback")
    with control.read() as tx:
        assert (tx.candidate(A).state, tx.candidate(A).stage) == ("rolled_back", "canary")
        assert tx.rollbacks(A) == 1


def test_what_is_refused_leaves_nothing_in_the_history(control: Control) -> None:
    start(control, A)
    before = told(control)
    with pytest.raises(Refused, match="nothing to pause"):
        apply(control, Pause(), "pause")
    with pytest.raises(Refused, match="a rollout is under way"):
        start(control, B)
    assert told(control) == before
    with control.read() as tx:
        assert tx.approvals(B) == []
