"""The shadow stage's steps: taken once, whoever looks and whatever is killed, each with its entry in the history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.control.shadows import read_shadow
from deploy.control.store import Control, open_control
from deploy.decisions.operations import Operations
from deploy.errors import Refused
from deploy.rules.assignment import Shadow
from deploy.rules.weighing import Comparisons
from deploy.serving_settings import EngineSettings, ShadowSettings
from deploy.settings import Settings
from tests.deploy.candidates import make_candidate
from tests.deploy.conftest import WON
from tests.deploy.decisions.approving import approve
from tests.deploy.pairs import compared
from tests.fakes import ManualClock

DAY_S = 86_400
LONG = Settings(shadow=ShadowSettings(min_s=DAY_S, max_s=3 * DAY_S))


class Labels:
    """What people say of the pairs, as far as they have."""

    def __init__(self) -> None:
        self.said = Comparisons()

    def __call__(self, *_: object) -> Comparisons:
        return self.said


@pytest.fixture
def labels() -> Labels:
    return Labels()


@pytest.fixture
def rules(control: Control, clock: ManualClock, folder: Path, labels: Labels) -> Operations:
    """Nobody has compared anything yet."""
    return Operations(control, lambda: LONG, folder, clock, labels)


@pytest.fixture
def other(tmp_path: Path, clock: ManualClock, folder: Path, labels: Labels) -> Any:
    """Another controller's rules, over the same database."""
    control = open_control(tmp_path / "control.db")
    yield Operations(control, lambda: LONG, folder, clock, labels)
    control.close()


def held(rules: Operations, folder: Path, seed: int = 0, **report: Any) -> str:
    digest = make_candidate(folder, seed, **report)
    rules.register(digest)
    return digest


def count(rules: Operations, labels: Labels, said: Comparisons) -> None:
    """This is what people have said by now, and the gate has looked at it."""
    labels.said = said
    rules.show(rules.candidates()[0]["digest"])


def shadow(rules: Operations) -> Shadow | None:
    with rules.control.read() as tx:
        return read_shadow(tx.connection)


def story(rules: Operations, digest: str) -> list[tuple[str, str, str, str]]:
    """What the history says of its shadow, the oldest first."""
    entries = [entry for entry in rules.history(50, digest) if entry["action"] == "shadow"]
    return [(entry["actor"], entry["from"], entry["to"], entry["reason"]) for entry in reversed(entries)]


def stage(rules: Operations) -> tuple[str, str]:
    newest = rules.candidates()[0]
    return newest["state"], newest["stage"]


def test_a_candidate_that_lacks_comparisons_comes_into_the_shadow_and_stays_held(
    rules: Operations, folder: Path
) -> None:
    digest = held(rules, folder)
    assert rules.attend_shadow() == "begin: nothing but comparisons is missing"
    begun = shadow(rules)
    assert begun is not None
    assert (begun.candidate, len(begun.salt)) == (digest, 64)
    assert stage(rules) == ("held", "shadow")
    assert story(rules, digest) == [("controller", "held", "shadow", "nothing but comparisons is missing")]
    assert rules.attend_shadow() is None


def test_of_two_controllers_and_one_that_comes_again_one_acts(
    rules: Operations, other: Operations, folder: Path, clock: ManualClock
) -> None:
    digest = held(rules, folder)
    assert [rules.attend_shadow() is None, other.attend_shadow() is None] == [False, True]
    assert shadow(rules) == shadow(other)
    clock.set_forward(3 * DAY_S)
    assert [other.attend_shadow() is None, rules.attend_shadow() is None] == [False, True]
    assert [said[2] for said in story(rules, digest)] == ["shadow", "held"]


def test_a_controller_that_is_killed_before_it_is_through_has_done_nothing(
    rules: Operations, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = held(rules, folder)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("deploy.control.transaction.history.append", killed)
        with pytest.raises(KeyboardInterrupt):
            rules.attend_shadow()
    assert (shadow(rules), stage(rules), story(rules, digest)) == (None, ("held", "gate"), [])
    assert rules.attend_shadow() is not None


def test_one_that_began_while_the_other_looked_is_left_alone(
    rules: Operations, other: Operations, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(rules, folder)
    change = rules.control.change

    def slower() -> Any:
        monkeypatch.setattr(rules.control, "change", change)
        assert other.attend_shadow() is not None
        return change()

    monkeypatch.setattr(rules.control, "change", slower)
    assert rules.attend_shadow() is None
    assert len(story(rules, rules.candidates()[0]["digest"])) == 1


def test_evidence_ends_it_not_before_its_shortest_and_a_person_may_then_approve_without_override(
    rules: Operations, folder: Path, clock: ManualClock, labels: Labels
) -> None:
    digest = held(rules, folder)
    rules.attend_shadow()
    count(rules, labels, WON)
    assert rules.attend_shadow() is None
    clock.set_forward(DAY_S)
    assert rules.attend_shadow() == "end: the gate passes it"
    assert stage(rules) == ("passed", "approval")
    assert shadow(rules) is None
    approve(rules, digest)
    assert rules.serving()["rollout"]["candidate"] == digest


def test_one_that_loses_is_rejected_and_out_of_it(rules: Operations, folder: Path, labels: Labels) -> None:
    digest = held(rules, folder)
    rules.attend_shadow()
    count(rules, labels, compared(80, 180))
    assert rules.attend_shadow() == "end: it was rejected"
    assert stage(rules)[0] == "rejected"
    assert story(rules, digest)[-1] == ("controller", "shadow", "rejected", "it was rejected")
    assert rules.attend_shadow() is None


def test_at_its_longest_it_stays_held_and_does_not_come_again_by_itself(
    rules: Operations, folder: Path, clock: ManualClock
) -> None:
    digest = held(rules, folder)
    rules.attend_shadow()
    clock.set_forward(3 * DAY_S)
    assert rules.attend_shadow() == "end: there is not enough evidence after 3 days"
    assert stage(rules) == ("held", "shadow")
    assert rules.attend_shadow() is None
    newer = held(rules, folder, 1, created_at_us=1_700_000_000_000_001)
    rules.attend_shadow()
    assert (begun := shadow(rules)) is not None
    assert begun.candidate == newer != digest


def test_a_rollout_of_another_ends_it_and_afterwards_it_may_come_again(rules: Operations, folder: Path) -> None:
    first, second = held(rules, folder, 0), held(rules, folder, 1, created_at_us=1_800_000_000_000_000)
    rules.attend_shadow()
    assert (begun := shadow(rules)) is not None
    assert begun.candidate == second
    approve(rules, first, override_hold=True)
    assert rules.control.routing().shadow is None
    assert rules.attend_shadow() == f"end: the rollout of {first[:12]} began"
    assert rules.attend_shadow() is None
    rules.rollback(actor="ada")
    assert rules.attend_shadow() is not None
    assert (again := shadow(rules)) is not None
    assert (again.candidate, again.id != begun.id) == (second, True)


def test_an_objection_ends_it_at_once_and_its_end_lets_it_come_again(rules: Operations, folder: Path) -> None:
    digest = held(rules, folder)
    rules.attend_shadow()
    rules.object(digest, reason="flatters", actor="bob")
    assert shadow(rules) is None
    assert story(rules, digest)[-1] == ("bob", "shadow", "held", "flatters")
    assert rules.attend_shadow() is None
    rules.object(digest, reason="seen together", actor="bob", withdraw=True)
    assert rules.attend_shadow() is not None


def test_an_objection_to_another_leaves_it(rules: Operations, folder: Path) -> None:
    first = held(rules, folder, 0)
    second = held(rules, folder, 1, created_at_us=1_800_000_000_000_000)
    rules.attend_shadow()
    rules.object(first, reason="flatters", actor="bob")
    assert (begun := shadow(rules)) is not None
    assert begun.candidate == second


def test_a_person_stops_it_and_starts_another_or_the_same(rules: Operations, folder: Path) -> None:
    first = held(rules, folder, 0)
    second = held(rules, folder, 1, created_at_us=1_800_000_000_000_000)
    rules.attend_shadow()
    rules.start_shadow(first[:12], reason="the older one reads better", actor="ada")
    assert (begun := shadow(rules)) is not None
    assert begun.candidate == first
    assert story(rules, second)[-1][3] == f"{first[:12]} instead: the older one reads better"
    assert rules.attend_shadow() is None
    rules.stop_shadow(reason="costs too much", actor="ada")
    assert shadow(rules) is None
    assert rules.attend_shadow() is None  # a person's word stands
    rules.start_shadow(second, reason="again", actor="ada")
    assert shadow(rules) is not None


def test_starting_what_is_there_changes_nothing_and_what_can_not_be_is_said(rules: Operations, folder: Path) -> None:
    digest = held(rules, folder)
    with pytest.raises(Refused, match="nothing to stop"):
        rules.stop_shadow(reason="", actor="ada")
    with pytest.raises(Refused, match="needs a reason"):
        rules.start_shadow(digest, reason=" ", actor="ada")
    rules.attend_shadow()
    begun = shadow(rules)
    rules.start_shadow(digest, reason="this one", actor="ada")
    assert shadow(rules) == begun
    rules.halt(actor="ada")
    with pytest.raises(Refused, match="everything is halted"):
        rules.start_shadow(digest, reason="now", actor="ada")


def test_a_halt_lets_nobody_be_copied_and_a_resume_goes_on(rules: Operations, folder: Path) -> None:
    held(rules, folder)
    rules.attend_shadow()
    begun = shadow(rules)
    rules.halt(actor="ada")
    assert rules.control.routing().shadow is None
    assert rules.attend_shadow() is None
    rules.resume(actor="ada")
    assert rules.control.routing().shadow == begun


def test_where_the_engine_takes_no_adapters_nobody_comes_into_it(
    control: Control, clock: ManualClock, folder: Path
) -> None:
    hosted = EngineSettings(kind="openai", urls=("http://127.0.0.1:9/v1",), model="m")
    rules = Operations(control, lambda: Settings(engine=hosted), folder, clock)
    digest = held(rules, folder)
    assert rules.attend_shadow() is None
    with pytest.raises(Refused, match="takes no adapters"):
        rules.start_shadow(digest, reason="now", actor="ada")
