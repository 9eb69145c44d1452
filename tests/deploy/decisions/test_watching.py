"""Watching: a real control database, real facts, users on an injected clock; what is seen is stored, and seen again after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.control.store import Control, open_control
from deploy.decisions.operations import Operations
from deploy.decisions.watching import Watching
from deploy.errors import Refused
from deploy.settings import RolloutSettings, Settings
from feedback.facts.reader import Facts
from tests.deploy.candidates import make_candidate
from tests.deploy.conftest import WON
from tests.deploy.decisions.approving import approve
from tests.deploy.decisions.people import People, settle_draws
from tests.fakes import ManualClock

DAY_S = 86_400.0
HALF = Settings(
    rollout=RolloutSettings(
        shares=(0.5, 0.95, 1.0), min_stage_s=86_400, max_stage_s=20 * 86_400, max_error_rise=0.2, max_dislike_rise=0.3
    )
)


@pytest.fixture
def rules(control: Control, clock: ManualClock, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Operations:
    settle_draws(monkeypatch)
    return Operations(control, lambda: HALF, folder, clock, lambda *_: WON)


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    return tmp_path / "facts"


def watching(control: Control, facts: Path, clock: ManualClock) -> Watching:
    return Watching(control, Facts(facts), lambda: HALF, clock)


def begin(rules: Operations, folder: Path) -> str:
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest)
    rules.promote(actor="ada")
    return digest


def seen(control: Control, facts: Path, clock: ManualClock) -> dict[str, Any]:
    look = watching(control, facts, clock).look()
    assert look is not None
    return look.document


def test_what_to_type_next_is_no_promotion_while_the_look_says_not_yet(
    rules: Operations, control: Control, facts: Path, clock: ManualClock, folder: Path
) -> None:
    begin(rules, folder)
    assert "trimtab promote" in rules.serving()["next"]  # nobody has looked
    assert seen(control, facts, clock)["action"] == "wait"
    assert rules.serving()["next"].startswith("nothing until its evidence is there")


def test_before_the_evidence_nobody_is_promoted_unless_somebody_knows_better_and_says_why(
    rules: Operations, control: Control, facts: Path, clock: ManualClock, folder: Path
) -> None:
    begin(rules, folder)
    assert seen(control, facts, clock)["action"] == "wait"
    with pytest.raises(
        Refused, match=r"too early for the next share: nobody has come to this rollout yet\. `trimtab st"
    ):
        rules.promote(actor="ada", reason="impatient")
    with pytest.raises(Refused, match="needs a reason"):
        rules.promote(actor="ada", override_hold=True)
    rules.promote(actor="ada", reason="knows better", override_hold=True)
    assert rules.serving()["rollout"]["share"] == 0.95
    assert control.history(1)[0].reason == "knows better"
    with pytest.raises(Refused, match="the controller has not looked at this share yet"):
        rules.promote(actor="ada")


def test_once_the_evidence_is_there_a_person_promotes_without_more_ado(
    rules: Operations, control: Control, facts: Path, clock: ManualClock, folder: Path
) -> None:
    begin(rules, folder)
    People(control, facts, clock).come(400, 2 * DAY_S, errors=(0.3, 0.3))
    clock.set_forward(73 * 3_600.0)
    assert seen(control, facts, clock)["action"] == "advance"
    rules.promote(actor="ada")
    assert rules.serving()["rollout"]["share"] == 0.95


def test_nothing_is_seen_where_no_rollout_is_under_way(control: Control, facts: Path, clock: ManualClock) -> None:
    assert watching(control, facts, clock).look() is None


def test_an_approval_may_begin_and_nobody_came_yet(
    control: Control, facts: Path, clock: ManualClock, rules: Operations, folder: Path
) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest)
    assert seen(control, facts, clock)["reasons"] == ["it is approved: the share of 50% may begin"]
    rules.promote(actor="ada")
    document = seen(control, facts, clock)
    assert (document["action"], document["reasons"]) == ("wait", ["nobody has come to this rollout yet"])


def test_a_candidate_that_fails_is_seen_within_its_first_hours(
    control: Control, facts: Path, clock: ManualClock, rules: Operations, folder: Path
) -> None:
    begin(rules, folder)
    People(control, facts, clock).come(300, DAY_S / 4, errors=(0.01, 0.4))
    document = seen(control, facts, clock)
    assert document["action"] == "rollback"
    assert document["reasons"][0].startswith("errors at 1 h: candidate ")
    assert document["units"]["candidate"] + document["units"]["incumbent"] == 300
    shown = rules.serving()["rollout"]["look"]
    assert (shown["action"], shown["reasons"]) == ("rollback", document["reasons"])
    (errors,) = [row for row in document["metrics"] if (row["metric"], row["age_h"]) == ("errors", 1)]
    assert errors["difference"][0] > 0


def test_another_process_sees_the_same_of_the_same(
    control: Control, facts: Path, clock: ManualClock, rules: Operations, folder: Path, tmp_path: Path
) -> None:
    begin(rules, folder)
    People(control, facts, clock).come(120, DAY_S)
    other = open_control(tmp_path / "control.db")
    assert seen(control, facts, clock) == seen(other, facts, clock)
    other.close()


def test_a_good_candidate_is_ready_once_enough_is_known_and_before_a_forecast_says_how_much_is_missing(
    control: Control, facts: Path, clock: ManualClock, rules: Operations, folder: Path
) -> None:
    begin(rules, folder)
    people = People(control, facts, clock)
    people.come(60, 4 * DAY_S, errors=(0.3, 0.3), dislikes=0.02)
    waits = seen(control, facts, clock)
    assert waits["action"] == "wait"
    missing = max(more["middle"] for more in waits["missing"].values() if more is not None)
    assert f"some {missing:,} units more would do" in " ".join(waits["reasons"])
    people.come(2 * missing, 4 * DAY_S, errors=(0.3, 0.3), dislikes=0.02)
    clock.set_forward(4 * DAY_S)
    assert seen(control, facts, clock)["action"] == "advance"


def test_a_rollout_that_was_approved_by_other_rules_is_seen_by_those(
    control: Control, facts: Path, clock: ManualClock, rules: Operations, folder: Path
) -> None:
    begin(rules, folder)
    People(control, facts, clock).come(20, 60)
    before = seen(control, facts, clock)
    changed = HALF.model_copy(update={"rollout": RolloutSettings(max_error_rise=0.9, advance="by evidence")})
    look = Watching(control, Facts(facts), lambda: changed, clock).look()
    assert look is not None
    assert (look.document["plan"], look.document["advance"]) == (before["plan"], "by hand")
