"""Whole rollouts by evidence alone: scripted people on an injected clock, a real control database and real facts, and controllers
that are killed after every look, two at a time. After the approval nobody's hand is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.control.store import Control, open_control
from deploy.decisions.operations import Operations
from deploy.decisions.steering import ACTOR
from deploy.decisions.watching import Watching
from deploy.roles.controller import watch
from deploy.settings import RolloutSettings, Settings
from feedback.facts.reader import Facts
from tests.deploy.candidates import make_candidate
from tests.deploy.decisions.approving import approve
from tests.deploy.decisions.people import People, settle_draws
from tests.deploy.pairs import compared
from tests.fakes import ManualClock

pytestmark = pytest.mark.slow
DAY_S = 86_400.0
WON = compared(180, 80)
SETTINGS = Settings(
    rollout=RolloutSettings(
        shares=(0.2, 0.5, 0.95, 1.0), min_stage_s=86_400, max_stage_s=30 * 86_400, max_error_rise=0.12,
        max_dislike_rise=0.2, advance="by evidence",
    )
)  # fmt: skip


class Days:
    """One day after the other: people come, and two controllers that have just been started look."""

    def __init__(self, folder: Path, clock: ManualClock, seed: int = 5, settings: Settings = SETTINGS) -> None:
        self._folder, self._clock, self._settings = folder, clock, settings
        self.control = open_control(folder / "control.db")
        self.people = People(self.control, folder / "facts", clock, seed)
        self.passed = 0

    def pass_until(
        self,
        over: Callable[[Operations], bool],
        most: int,
        errors: tuple[float, float],
        users: int = 60,
        dislikes: float = 0.05,
    ) -> None:
        while not over(self.rules(self.control)):
            assert self.passed < most, f"after {most} days: {self.rules(self.control).serving()['rollout']['look']}"
            self.people.come(users, DAY_S, errors, dislikes)
            self.passed += 1
            self.look()

    def look(self) -> None:
        two = [open_control(self._folder / "control.db") for _ in range(2)]
        for control in two:
            watching = Watching(control, Facts(self._folder / "facts"), lambda: self._settings, self._clock)
            watch(watching, self.rules(control))
        for control in two:
            control.close()

    def rules(self, control: Control) -> Operations:
        return Operations(control, lambda: self._settings, self._folder / "candidates", self._clock, lambda *_: WON)

    def approved(self) -> str:
        rules = self.rules(self.control)
        (self._folder / "candidates").mkdir(exist_ok=True)
        digest = make_candidate(self._folder / "candidates")
        rules.register(digest)
        approve(rules, digest)
        return digest


@pytest.fixture
def days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Days:
    settle_draws(monkeypatch)
    return Days(tmp_path, ManualClock())


def steps(days: Days, digest: str) -> list[tuple[str, str]]:
    """What was done with it after its approval, in order."""
    told = [(entry["action"], entry["actor"]) for entry in days.rules(days.control).history(50, digest)]
    return [one for one in reversed(told) if one[0] in ("promote", "rollback", "pause", "resume")]


def test_a_good_candidate_comes_to_everybody(days: Days) -> None:
    digest = days.approved()
    days.pass_until(lambda rules: rules.serving()["rollout"] is None, 60, errors=(0.1, 0.1))
    assert days.control.routing().incumbent == digest
    assert [step for step in steps(days, digest) if step[0] == "promote"] == [("promote", ACTOR)] * 4
    assert not [step for step in steps(days, digest) if step[0] == "rollback"]


def test_a_bad_one_is_taken_back_while_few_have_met_it(days: Days) -> None:
    digest = days.approved()
    days.pass_until(lambda rules: steps(days, digest)[-1:] == [("rollback", ACTOR)], 20, errors=(0.02, 0.35))
    assert days.control.routing().candidate is None
    assert [step[0] for step in steps(days, digest)].count("rollback") == 1
    enrolled = days.control.assignments.enrolments(_rollout(days, digest))
    exposed = sum(one.arm == "candidate" for one in enrolled)
    print(f"{exposed} of {len(enrolled)} users had met it by day {days.passed}")
    assert exposed < 150


@pytest.mark.parametrize("seed", [2, 5])
def test_without_enough_users_it_waits_and_the_forecast_comes_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    settle_draws(monkeypatch)
    days = Days(tmp_path, ManualClock(), seed)
    days.approved()
    few = {"errors": (0.06, 0.06), "users": 25}
    days.pass_until(lambda rules: bool(_missing(rules)) and _closed(rules) > 100, 20, **few)  # type: ignore[arg-type]
    look = days.rules(days.control).serving()["rollout"]["look"]
    assert look["action"] == "wait"
    more = max(_missing(days.rules(days.control)), key=lambda more: more["middle"])
    assert f"some {more['middle']:,} units more would do" in " ".join(look["reasons"])
    days.pass_until(lambda rules: rules.serving()["rollout"]["share"] > 0.5, 90, **few)  # type: ignore[arg-type]
    before = sum(look["closed"].values())
    needed = _closed(days.rules(days.control)) - before
    print(f"{needed} users more were needed, {more} were forecast")
    a_look = few["users"]  # comes once a day
    assert more["low"] - a_look <= needed <= more["high"] + a_look  # type: ignore[operator]
    assert 0.5 <= (before + needed) / (before + more["middle"]) <= 2


def _closed(rules: Operations) -> int:
    return sum(rules.serving()["rollout"]["look"]["closed"].values())


def _missing(rules: Operations) -> list[dict[str, int]]:
    look = (rules.serving()["rollout"] or {}).get("look") or {"missing": {}}
    return [more for more in look["missing"].values() if more is not None]


def _rollout(days: Days, digest: str) -> str:
    """The rollout that the candidate had."""
    with days.control.read() as tx:
        return tx.approvals(digest)[0].rollout_id
