"""The controller's gauges, against a real control database that real operations changed."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import REGISTRY

from deploy.control.records import Candidate, RolloutLook
from deploy.control.store import Control
from deploy.decisions import figures
from deploy.decisions.operations import Operations
from deploy.rules.rollout import Approve, Promote, transition
from deploy.serving_settings import ShadowSettings
from deploy.settings import CompareSettings, Settings
from feedback.statistics.sample_ratio import Counted
from tests.deploy.candidates import make_candidate
from tests.deploy.pairs import label, sample, stored
from tests.fakes import ManualClock
from tests.models.snapshots import said, seal, turn


def read(control: Control, clock: ManualClock, name: str, **labels: str) -> float | None:
    """What /metrics says now."""
    figures.refresh(control, clock.now_us())
    return REGISTRY.get_sample_value(name, labels)


def test_a_fresh_deployment_shows_zeroes_and_the_version(control: Control, clock: ManualClock) -> None:
    for state in figures.CANDIDATE_STATES:
        assert read(control, clock, "trimtab_candidates", state=state) == 0
    for outcome in figures.OUTCOMES:
        assert read(control, clock, "trimtab_training_runs", outcome=outcome) == 0
    for name in ("rollbacks", "halted", "rollout_share", "training_last_success_timestamp_seconds"):
        assert read(control, clock, f"trimtab_{name}") == 0
    assert read(control, clock, "trimtab_rollout_state", state="none") == 1
    assert read(control, clock, "trimtab_build_info", version=version("trimtab")) == 1


def test_trainings_are_counted_by_how_they_ended(control: Control, clock: ManualClock) -> None:
    trainings = control.trainings
    trainings.end(trainings.start("first", clock.now_us()), "done", clock.now_us())
    done_s = clock.now_us() / 1e6
    for _ in range(2):
        clock.set_forward(60)
        trainings.end(trainings.start("again", clock.now_us()), "failed", clock.now_us(), error="out of memory")
    assert read(control, clock, "trimtab_training_runs", outcome="done") == 1
    assert read(control, clock, "trimtab_training_runs", outcome="failed") == 2
    assert read(control, clock, "trimtab_training_failures_in_a_row") == 2
    assert read(control, clock, "trimtab_training_last_success_timestamp_seconds") == done_s
    assert read(control, clock, "trimtab_training_running") == 0
    trainings.start("one more", clock.now_us())
    assert read(control, clock, "trimtab_training_running") == 1


def test_a_training_that_wants_a_yes_waits_until_somebody_answers(control: Control, clock: ManualClock) -> None:
    request = control.trainings.request("200 new labels", clock.now_us())
    clock.set_forward(90)
    assert read(control, clock, "trimtab_training_request_waiting_seconds") == 90
    control.trainings.answer(request.name, "approved", "ada", "fine", clock.now_us())
    assert read(control, clock, "trimtab_training_request_waiting_seconds") == 0


def test_a_candidate_waits_until_a_person_decides(
    control: Control, clock: ManualClock, folder: Path, rules: Operations
) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    clock.set_forward(3_600)
    assert read(control, clock, "trimtab_candidates", state="held") == 1
    assert read(control, clock, "trimtab_candidate_waiting_seconds") == 3_600
    rules.reject(digest, reason="too terse", actor="ada")
    assert read(control, clock, "trimtab_candidates", state="held") == 0
    assert read(control, clock, "trimtab_candidates", state="rejected") == 1
    assert read(control, clock, "trimtab_candidate_waiting_seconds") == 0


def test_a_rollout_is_seen_from_approval_to_rollback(
    control: Control, clock: ManualClock, folder: Path, judged_rules: Operations
) -> None:
    digest = make_candidate(folder)
    seal = judged_rules.register(digest)["evidence"]
    judged_rules.approve(digest, evidence=seal, reason="better", actor="ada")
    assert read(control, clock, "trimtab_rollout_state", state="approved") == 1
    assert read(control, clock, "trimtab_rollout_share") == 0
    judged_rules.promote(actor="ada")
    assert read(control, clock, "trimtab_rollout_state", state="canary") == 1
    assert read(control, clock, "trimtab_rollout_share") == 0.05
    judged_rules.pause(actor="ada")
    assert read(control, clock, "trimtab_rollout_state", state="canary") == 0
    assert read(control, clock, "trimtab_rollout_state", state="paused") == 1
    judged_rules.rollback(actor="ada", reason="rude")
    assert read(control, clock, "trimtab_rollout_state", state="none") == 1
    assert read(control, clock, "trimtab_rollout_share") == 0
    assert read(control, clock, "trimtab_rollbacks") == 1


def test_halted_is_one_until_resumed(control: Control, clock: ManualClock, rules: Operations) -> None:
    rules.halt(actor="ada")
    assert read(control, clock, "trimtab_halted") == 1
    rules.resume(actor="ada")
    assert read(control, clock, "trimtab_halted") == 0


def test_a_role_that_never_refreshes_serves_none_of_these() -> None:
    code = (
        "import deploy.decisions.figures, prometheus_client as p;"
        "assert b'trimtab_halted' not in p.generate_latest(), 'served by every role'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def candidate(name: str, state: str, created_at_us: int) -> Candidate:
    return Candidate(name, "s", "sha256:0", "0", created_at_us, created_at_us + 5, state, "gate")  # type: ignore[arg-type]


def test_a_candidate_older_than_what_serves_waits_for_nobody(control: Control, clock: ManualClock) -> None:
    now_s = clock.now_us() / 1e6
    with control.change() as tx:
        for each in (candidate("new", "passed", 30), candidate("live", "full", 20), candidate("old", "held", 10)):
            tx.add_candidate(each)
    assert read(control, clock, "trimtab_candidate_waiting_seconds") == now_s - 15e-6
    for waits, commands in ((35, (Approve("live", "r"), Promote((1.0,), 10**16))), (None, (Approve("new", "s"),))):
        with control.change() as tx:
            for command in commands:
                before = tx.serving()
                tx.save_serving(before, transition(before, command, 1)[0], 1)
        since = read(control, clock, "trimtab_candidate_waiting_seconds")
        assert since == (0 if waits is None else now_s - waits / 1e6)


def test_who_waits_is_found_in_the_database(
    control: Control, clock: ManualClock, folder: Path, rules: Operations
) -> None:
    old, new = make_candidate(folder, 1, created_at_us=1), make_candidate(folder, 2, created_at_us=2)
    rules.register(old)
    clock.set_forward(60)
    rules.register(new)
    clock.set_forward(60)
    assert read(control, clock, "trimtab_candidate_waiting_seconds") == 120
    evidence = rules.show(new)["evidence"]
    rules.approve(new, evidence=evidence, reason="r", actor="ada", override_hold=True)
    assert read(control, clock, "trimtab_candidate_waiting_seconds") == 0


def test_the_arms_of_a_rollout_are_shown_while_it_is_under_way(
    control: Control, clock: ManualClock, folder: Path, rules: Operations
) -> None:
    with control.change() as tx:
        before = tx.serving()
        after, _ = transition(before, Approve("c" * 64, "r"), 1)
        after, _ = transition(after, Promote((0.5, 1.0), 100), 1)
        tx.add_candidate(Candidate("c" * 64, "s", "d", "r", 1, 1, "canary", "canary"))
        tx.save_serving(before, after, 1)
        row = {"metric": "errors", "age_h": 1.0, "slice": None, "log_evidence_of_harm": 0.0, "log_evidence_needed": 2.0}
        arms = {"bad": {"candidate": 3, "incumbent": 1}, "of": {"candidate": 10, "incumbent": 20}}
        ratios = [
            {"counted": counted, "log_evidence": log_e, "log_evidence_needed": 7.6}
            for counted, log_e in (("assigned", 7.0), ("closed", 7.6), ("late", 40.0))
        ]
        document = {"action": "wait", "units": {"candidate": 12, "incumbent": 24}, "metrics": [row | arms]}
        document["sample_ratio"] = ratios
        tx.save_look(RolloutLook("r", 1, document))
    at = {"metric": "errors", "age_hours": "1", "group": "all"}
    assert read(control, clock, "trimtab_rollout_verdict", action="wait") == 1
    assert read(control, clock, "trimtab_rollout_verdict", action="rollback") == 0
    assert read(control, clock, "trimtab_rollout_units", arm="candidate") == 12
    assert read(control, clock, "trimtab_rollout_closed_units", arm="incumbent", **at) == 20
    assert read(control, clock, "trimtab_rollout_bad_units", arm="candidate", **at) == 3
    assert read(control, clock, "trimtab_rollout_harm", **at) == pytest.approx(0.1353, abs=1e-3)
    ratio = {name: read(control, clock, "trimtab_rollout_sample_ratio", counted=name) for name in get_args(Counted)}
    assert ratio == {"assigned": pytest.approx(0.5488, abs=1e-3), "closed": 1, "late": 1}
    rules.rollback(actor="ada")
    assert read(control, clock, "trimtab_rollout_verdict", action="wait") == 0
    assert read(control, clock, "trimtab_rollout_units", arm="candidate") is None
    assert read(control, clock, "trimtab_rollout_sample_ratio", counted="assigned") is None


def test_a_shadow_is_shown_since_when_it_runs_and_at_its_longest_until_somebody_decides(
    control: Control, clock: ManualClock, folder: Path, rules: Operations
) -> None:
    started, held = "trimtab_shadow_started_timestamp_seconds", "trimtab_shadow_held"
    assert (read(control, clock, started), read(control, clock, held)) == (0, 0)
    digest = make_candidate(folder)
    rules.register(digest)
    rules.attend_shadow()
    assert (read(control, clock, started), read(control, clock, held)) == (clock.now_us() / 1e6, 0)
    clock.set_forward(ShadowSettings().max_s)
    rules.attend_shadow()
    assert (read(control, clock, started), read(control, clock, held)) == (0, 1)
    rules.reject(digest, reason="no better", actor="ada")
    assert read(control, clock, held) == 0


def test_one_that_a_person_put_into_the_shadow_again_waits_for_nobody(
    control: Control, clock: ManualClock, folder: Path, rules: Operations
) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    rules.attend_shadow()
    clock.set_forward(ShadowSettings().max_s)
    rules.attend_shadow()
    rules.start_shadow(digest, reason="people have time this week", actor="ada")
    assert read(control, clock, "trimtab_shadow_held") == 0


def test_of_the_newest_candidates_comparisons_it_is_told_how_many_count_who_is_waited_for_and_since_when(
    control: Control, clock: ManualClock, folder: Path
) -> None:
    compare = CompareSettings(second=0.0)
    rules = Operations(control, lambda: Settings(compare=compare), folder, clock)

    def shown() -> list[float | None]:
        figures.show_comparisons(rules.recount())
        states = [read(control, clock, "trimtab_comparisons", state=state) for state in figures.COMPARISON_STATES]
        return [*states, read(control, clock, "trimtab_comparisons_waiting_seconds")]

    assert shown() == [0, 0, 0, 0, 0]
    seal(folder.parent / "snapshots" / "s-1", [turn(9_000, "train", said("where?"), "here")])
    rules.register(digest := make_candidate(folder, samples=[sample(n) for n in range(30)]))
    clock.set_forward(90)
    assert shown() == [30, 0, 30, 0, 90]
    assert read(control, clock, "trimtab_comparisons_evidence") == pytest.approx(1 / 25)
    control.comparisons.label([label(one, 1.0, at_us=clock.now_us()) for one in stored(control, digest)[:29]])
    assert shown() == [30, 29, 1, 0, 90]
    assert read(control, clock, "trimtab_comparisons_evidence") == 1
    clock.set_forward(compare.expires_s)
    assert shown() == [30, 30, 0, 0, 0]
    rules.reject(digest, reason="no", actor="ada")
    assert shown() == [0, 0, 0, 0, 0]
    assert read(control, clock, "trimtab_comparisons_evidence") == 0
