"""An approval is good for the evidence that was seen: figures may move, what they mean may not."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from deploy.errors import Refused
from deploy.rules.approval import (
    Evidence,
    Policy,
    changes,
    check,
    check_step,
    evidence_of,
    matches,
    same,
    worse,
)
from deploy.rules.reasons import Reason
from deploy.settings import GateSettings, RolloutSettings
from tests.deploy.pairs import compared

POLICY = Policy(GateSettings(), RolloutSettings(shares=(0.05, 1.0)), expires_s=3_600)
WINS = Reason("wins", compared(180, 80).figures)
FEW = Reason("too_few_comparisons", compared(8, 5).figures)
SILENT = Reason("no_samples")
NO_OP = Reason("no_op", {"largest": 0.0, "floor": 0.001})
SEEN = Evidence("c" * 64, "sha256:1", "e" * 64, None, POLICY, "pass", (WINS,), 1_000)
HELD = replace(SEEN, outcome="hold", reasons=(FEW,))
HOUR_US = 3_600_000_000


def approve(now: Evidence = SEEN, sealed: Evidence = SEEN, now_us: int = 2_000, **changed: Any) -> None:
    check(sealed, now, now_us, **{"reason": "reads well", "override_hold": False} | changed)


def step(now: Evidence, approved: Evidence = SEEN, **changed: Any) -> None:
    check_step(approved, now, **{"reason": "", "override_hold": False} | changed)


CHANGES: dict[str, Any] = {
    "candidate": "d" * 64,
    "dataset_hash": "sha256:2",
    "report_sha256": "f" * 64,
    "incumbent": "a" * 64,
    "policy": replace(POLICY, rollout=RolloutSettings(shares=(0.5, 1.0))),
    "outcome": "hold",
    "reasons": (FEW,),
    "sealed_at_us": 1_001,
}


@pytest.mark.parametrize("field", [field.name for field in fields(Evidence)])
def test_every_field_is_part_of_the_seal(field: str) -> None:
    changed = replace(SEEN, **{field: CHANGES[field]})
    assert changed.seal != SEEN.seal
    assert same(changed, SEEN) == (field == "sealed_at_us")


@pytest.mark.parametrize(
    "policy",
    [
        replace(POLICY, gate=GateSettings(probe_floor=0.5)),
        replace(POLICY, rollout=RolloutSettings(max_error_rise=0.1)),
        replace(POLICY, expires_s=1),
    ],
)
def test_every_part_of_the_policy_is_part_of_the_seal(policy: Policy) -> None:
    assert replace(SEEN, policy=policy).seal != SEEN.seal


def test_a_seal_says_all_that_was_sealed() -> None:
    for evidence in (SEEN, HELD, replace(SEEN, reasons=(NO_OP, FEW), outcome="reject", incumbent="a" * 64)):
        assert evidence_of(evidence.document()) == evidence


def test_a_seal_by_rules_that_are_gone_is_read_by_those_that_there_still_are() -> None:
    document = SEEN.document()
    document["policy"]["gate"] |= {"min_comparisons": 200, "min_win_rate_bound": 0.5, "confidence": 0.95}
    assert evidence_of(document) == SEEN


def test_the_seal_or_its_first_characters_names_it() -> None:
    assert matches(SEEN.seal, SEEN.seal)
    assert matches(f" {SEEN.seal[:12].upper()}", SEEN.seal)
    for named in ("", SEEN.seal[:11], "0" * 64, SEEN.seal + "0"):
        assert not matches(named, SEEN.seal)


def test_figures_may_move_between_the_seal_and_the_approval() -> None:
    moved = replace(SEEN, reasons=(Reason("wins", compared(181, 80).figures),))
    assert moved.seal != SEEN.seal
    approve(now=moved)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"incumbent": "a" * 64}, "incumbent: the bare base became aaaaaaaaaaaa"),
        ({"reasons": (WINS, Reason("other_incumbent", {}))}, "reasons: other_incumbent came"),
        ({"outcome": "hold", "reasons": (SILENT,)}, "outcome: pass became hold"),
        ({"reasons": (SILENT,)}, "reasons: no_samples came; wins went"),
    ],
)
def test_what_figures_mean_may_not_change_and_the_change_is_named(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(Refused, match="the evidence has changed since it was sealed") as refused:
        approve(now=replace(SEEN, **changed), override_hold=True)
    assert named in str(refused.value)


@pytest.mark.parametrize("field", ["candidate", "dataset_hash", "report_sha256", "policy", "sealed_at_us"])
def test_what_is_not_the_gates_word_ends_no_approval(field: str) -> None:
    assert list(changes(SEEN, replace(SEEN, **{field: CHANGES[field]}))) == []


def test_old_evidence_is_refused_by_the_policy_that_was_sealed() -> None:
    approve(now_us=1_000 + HOUR_US - 1)
    with pytest.raises(Refused, match="more than 1 hours ago"):
        approve(now_us=1_000 + HOUR_US)
    longer = replace(SEEN, policy=replace(POLICY, expires_s=7_200))
    approve(sealed=longer, now_us=1_000 + HOUR_US)


def test_a_reject_is_never_approvable() -> None:
    rejected = replace(SEEN, outcome="reject", reasons=(NO_OP,))
    with pytest.raises(Refused, match="nobody can approve it: no-op"):
        approve(now=rejected, sealed=rejected, override_hold=True)


def test_a_hold_needs_the_override_and_a_reason() -> None:
    with pytest.raises(Refused, match="--override-hold"):
        approve(now=HELD, sealed=HELD)
    with pytest.raises(Refused, match="needs a reason"):
        approve(now=HELD, sealed=HELD, override_hold=True, reason="")
    approve(now=HELD, sealed=HELD, override_hold=True)


def test_a_step_goes_on_while_the_gate_would_pass_or_holds_for_what_was_overridden() -> None:
    step(SEEN)
    step(replace(HELD, reasons=(Reason("too_few_comparisons", compared(9, 5).figures),)), approved=HELD)
    step(SEEN, approved=HELD)  # it has become better


@pytest.mark.parametrize(
    ("now", "sentence"),
    [
        (replace(SEEN, outcome="reject", reasons=(NO_OP,)), "would reject cccccccccccc now"),
        (replace(SEEN, outcome="hold", reasons=(SILENT,)), "would hold cccccccccccc now"),
    ],
)
@pytest.mark.parametrize("approved", [SEEN, HELD])
def test_a_step_that_would_no_longer_pass_is_refused_by_name_and_may_be_overridden(
    now: Evidence, sentence: str, approved: Evidence
) -> None:
    assert worse(approved, now)
    with pytest.raises(Refused, match=sentence):
        step(now, approved)
    with pytest.raises(Refused, match="needs a reason"):
        step(now, approved, override_hold=True)
    step(now, approved, override_hold=True, reason="I know why")


def test_a_step_against_another_incumbent_is_refused_whatever_is_said() -> None:
    with pytest.raises(Refused, match="approved against the bare base, and aaaaaaaaaaaa serves now"):
        step(replace(SEEN, incumbent="a" * 64), override_hold=True, reason="I know why")
