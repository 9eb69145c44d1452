"""What goes wrong around a rollout: a visible reason and a safe state, never a promotion by it.

A real control database, real facts and the controller's own steps; `advance = "by evidence"`, so that nothing but the evidence stands
between a candidate and the next share.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import delete

from deploy.cli.arms_view import MISMATCH, verdict_lines
from deploy.cli.shadow import shadow_lines
from deploy.control import schema
from deploy.control.shadows import read_shadow
from deploy.control.store import Control
from deploy.decisions.figures import refresh
from deploy.decisions.operations import Operations
from deploy.decisions.steering import steer
from deploy.decisions.watching import Watching
from deploy.errors import Refused
from deploy.rules.comparing import JUDGE, ComparisonLabel
from deploy.settings import CompareSettings, RolloutSettings, Settings
from feedback.facts.reader import Facts
from feedback.settings import JudgeSettings
from tests.deploy.candidates import make_candidate
from tests.deploy.conftest import WON
from tests.deploy.decisions.approving import approve
from tests.deploy.decisions.people import People, settle_draws, thumbs, turn_of
from tests.deploy.decisions.test_comparing import label_all, trained
from tests.deploy.pairs import sample
from tests.fakes import ManualClock

DAY_S = 86_400.0
MINUTE_US = 60_000_000
WINDOW_S = 73 * 3_600.0
JUDGED = Settings(
    judge=JudgeSettings(base_url="http://127.0.0.1:9/v1", model="m", free=True), compare=CompareSettings(second=0.0)
)


def settings(**changes: Any) -> Settings:
    fields = {
        "shares": (0.5, 0.95, 1.0), "min_stage_s": 86_400, "max_stage_s": 20 * 86_400, "max_error_rise": 0.2,
        "max_dislike_rise": 0.3, "advance": "by evidence",
    }  # fmt: skip
    return Settings(rollout=RolloutSettings(**(fields | changes)))


class Watched:
    """A rollout at its first share, its public, and a controller that looks and acts."""

    def __init__(self, control: Control, clock: ManualClock, folder: Path, **changes: Any) -> None:
        asked, facts = settings(**changes), folder.parent / "facts"
        self.control, self.clock = control, clock
        self.rules = Operations(control, lambda: asked, folder, clock, lambda *_: WON)
        self.watching = Watching(control, Facts(facts), lambda: asked, clock)
        self.people = People(control, facts, clock)
        digest = make_candidate(folder)
        self.rules.register(digest)
        approve(self.rules, digest)
        self.rules.promote(actor="ada")

    def look(self) -> tuple[dict[str, Any], str | None]:
        """What is seen, and the step that was taken."""
        look = self.watching.look()
        assert look is not None
        return look.document, steer(self.rules, look)

    def enough(self) -> None:
        """So many users have come and gone that an equal candidate goes on."""
        self.people.come(400, 2 * DAY_S, errors=(0.3, 0.3))
        self.clock.set_forward(WINDOW_S)


@pytest.fixture
def watched(control: Control, clock: ManualClock, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    settle_draws(monkeypatch)
    return Watched(control, clock, folder)


@pytest.fixture
def strict(control: Control, clock: ManualClock, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """So few users as come in a test are never enough for it."""
    settle_draws(monkeypatch)
    return Watched(control, clock, folder, max_error_rise=0.01)


def bad(document: dict[str, Any], metric: str, age_h: float = 72) -> dict[str, int]:
    (row,) = [row for row in document["metrics"] if (row["metric"], row["age_h"]) == (metric, age_h)]
    return {arm: int(row["bad"][arm]) for arm in ("candidate", "incumbent")}


def test_with_nothing_wrong_the_same_rollout_goes_on(watched: Watched) -> None:
    """What the others stand against."""
    watched.enough()
    document, step = watched.look()
    assert (document["action"], step) == ("advance", "promote")


def test_a_public_that_hammers_ratings_on_one_conversation_counts_once(strict: Watched) -> None:
    strict.people.come(100, DAY_S)
    exposure = strict.control.expose("default", "c-loud", "loud", strict.clock.now_us())
    turn = turn_of("loud", strict.clock.now_us(), "c-loud")
    before, _ = strict.look()
    hammered = [
        thumbs(turn, False, turn.occurred_at_us + n, f"loud-{n}", user_id="loud" if n % 2 else f"friend-{n}")
        for n in range(1, 2_001)
    ]
    strict.people.tell([turn], hammered)
    strict.clock.set_forward(2 * WINDOW_S)
    document, step = strict.look()
    quiet = bad(document, "dislikes")
    assert (document["action"], step) == ("wait", None)
    assert document["units"][exposure.arm] == before["units"][exposure.arm]
    assert (
        bad(document, "dislikes", 1)[exposure.arm]
        == bad(before, "dislikes", 1)[exposure.arm] + 1
        <= quiet[exposure.arm]
    )


def test_ratings_of_another_tenants_turns_have_no_effect(watched: Watched) -> None:
    watched.people.come(100, DAY_S)
    watched.clock.set_forward(WINDOW_S)
    before, _ = watched.look()
    forged = []
    for one in watched.control.assignments.enrolments(before["rollout"]):
        turn = turn_of(one.unit, one.at_us)
        forged.append(thumbs(turn, False, one.at_us + MINUTE_US, f"forged-{one.unit}", tenant="somebody-else"))
    watched.people.tell([], forged)
    after, _ = watched.look()
    assert after["metrics"] == before["metrics"]


def test_one_person_behind_ten_ids_can_not_choose_the_arm_and_moves_nothing(strict: Watched) -> None:
    """Not covered: ten ids are ten users. They come to both arms as everybody does, and so do their dislikes."""
    strict.people.come(200, DAY_S)
    ids = [f"sock-{n}" for n in range(10)]
    now_us = strict.clock.now_us()
    arms = [strict.control.expose("default", f"c-{name}", name, now_us).arm for name in ids]
    turns = [turn_of(name, now_us) for name in ids]
    strict.people.tell(turns, [thumbs(turn, False, now_us + MINUTE_US) for turn in turns])
    strict.clock.set_forward(WINDOW_S)
    document, step = strict.look()
    assert set(arms) == {"candidate", "incumbent"}
    assert sum(bad(document, "dislikes").values()) >= 10
    assert (document["action"], step) == ("wait", None)


@pytest.mark.parametrize(("hours", "way"), [(24 * 9, "ahead"), (-24 * 9, "back")])
def test_a_clock_that_jumps_within_a_window_holds_until_a_person_has_looked(
    watched: Watched, hours: float, way: str
) -> None:
    watched.people.come(400, 2 * DAY_S, errors=(0.3, 0.3))
    assert watched.look()[0]["action"] == "wait"
    watched.clock.jump(hours * 3_600)
    document, step = watched.look()
    assert (document["action"], step) == ("hold", None)
    assert document["reasons"][0].startswith(f"the clock was set {way} by 216.0 h")
    watched.clock.jump(-hours * 3_600)
    watched.clock.set_forward(WINDOW_S)
    assert watched.look()[0]["action"] == "hold", "what was seen under a wrong clock is not forgotten"
    watched.rules.pause(actor="ada", reason="the clock")
    assert watched.look()[1] is None
    watched.rules.resume(actor="ada", reason="it is right again")
    assert watched.look()[1] == "promote"


def test_a_clock_that_went_back_while_no_controller_ran_is_seen_by_the_next_one(watched: Watched) -> None:
    watched.enough()
    watched.rules.pause(actor="ada", reason="lunch")
    watched.look()
    watched.rules.resume(actor="ada", reason="back")
    watched.rules.pause(actor="ada", reason="again")
    watched.clock.jump(-5 * 3_600)
    another = Watching(watched.control, watched.watching._facts, settings, watched.clock)
    look = another.look()
    assert look is not None
    assert look.document["action"] == "hold"
    assert look.document["reasons"][0].startswith("the clock was set back by 5.0 h")


def test_harm_is_rolled_back_whatever_the_clock_does(watched: Watched) -> None:
    watched.people.come(300, DAY_S / 4, errors=(0.01, 0.4))
    watched.clock.set_forward(2 * 3_600)
    watched.watching.look()
    watched.clock.jump(3_600 * 24)
    document, step = watched.look()
    assert (document["action"], step) == ("rollback", "rollback")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_dislike_rise": 0.001}, "it can't be shown at any traffic"),
        ({"max_dislike_rise": 0.03}, "this share may last 15 days more, then it is on hold"),
        ({"shares": (0.02, 1.0)}, "this share may last 15 days more, then it is on hold"),
    ],
    ids=["a margin for no traffic", "a margin for more traffic", "too small a share"],
)
def test_a_margin_or_shares_that_this_traffic_can_never_meet_are_said_and_at_the_maximum_it_is_on_hold(
    control: Control, clock: ManualClock, folder: Path, changes: dict[str, Any], said: str
) -> None:
    watched = Watched(control, clock, folder, **changes)
    watched.people.come(100, 5 * DAY_S)
    document, step = watched.look()
    assert (document["action"], step) == ("wait", None)
    assert document["outlook"]["decision_in_s"] is None
    assert said in document["outlook"]["said"]
    watched.people.come(300, 16 * DAY_S)
    document, step = watched.look()
    assert (document["action"], step) == ("hold", None)
    assert document["reasons"][0] == "the stage is as long as it may be, and the evidence is not enough"


def test_dislikes_of_one_arm_that_come_after_their_windows_hold(watched: Watched) -> None:
    """They would hide the candidate's harm: nothing that is late ever counts."""
    watched.people.come(400, 2 * DAY_S, errors=(0.3, 0.3))
    watched.clock.set_forward(WINDOW_S + 3_600)
    late = []
    for one in watched.control.assignments.enrolments(watched.rules.serving()["rollout"]["id"]):
        if one.arm == "candidate" and int(one.unit[1:]) % 2:
            turn = turn_of(one.unit, one.at_us)
            late.append(thumbs(turn, False, one.at_us + 60 * MINUTE_US, f"late-{one.unit}"))
    watched.people.tell([], late)
    document, step = watched.look()
    assert (document["action"], step) == ("hold", None)
    assert document["reasons"][0].startswith(
        f"sample ratio: {len(late)} of {len(late)} units with late events are the candidate's"
    )
    assert document["late"] == len(late)
    held = {row["counted"]: row["log_evidence"] >= row["log_evidence_needed"] for row in document["sample_ratio"]}
    assert held == {"assigned": False, "closed": False, "late": True}


def test_draws_of_one_arm_that_are_lost_hold_with_the_numbers_and_what_to_do_also_where_the_clock_was_set(
    watched: Watched,
) -> None:
    lose_draws(watched)
    document, step = watched.look()
    (assigned,) = [row for row in document["sample_ratio"] if row["counted"] == "assigned"]
    arms = document["units"]
    assert (assigned["candidate"], assigned["of"]) == (arms["candidate"], arms["candidate"] + arms["incumbent"])
    assert assigned["expected"] == assigned["of"] / 2
    odds = f"evidence {math.exp(assigned['log_evidence']):,.0f} : 1, needed 2,000 : 1"
    assert (document["action"], step) == ("hold", None)
    assert document["reasons"][0].startswith(
        f"sample ratio: {arms['candidate']} of {assigned['of']} assigned units are the candidate's where {assigned['of'] / 2:.0f}"
    )
    assert odds in document["reasons"][0]
    assert MISMATCH in list(verdict_lines({"at": "now", **document}))
    watched.clock.jump(2 * 3_600)
    document, step = watched.look()
    assert (document["action"], step) == ("hold", None)
    assert document["reasons"][0].startswith("the clock was set ahead")
    assert document["reasons"][1].startswith("sample ratio: ")
    assert document["sample_ratio"][0] == assigned
    assert watched.rules.serving()["next"].startswith("trimtab rollback ")


def test_after_a_sample_ratio_mismatch_a_new_rollout_of_the_same_candidate_begins_anew(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_draws(watched)
    assert watched.look()[0]["action"] == "hold"
    digest = watched.rules.serving()["rollout"]["candidate"]
    watched.rules.rollback(actor="ada", reason="draws were lost")
    settle_draws(monkeypatch, "6b")
    approve(watched.rules, digest, override_hold=True)
    watched.rules.promote(actor="ada")
    watched.people.come(100, DAY_S / 2, errors=(0.3, 0.3))
    document, _ = watched.look()
    assert document["action"] == "wait"
    assert document["sample_ratio"][0]["of"] == 100


def lose_draws(watched: Watched) -> None:
    """Users came, and of many of the candidate's nobody knows any more that they were drawn."""
    watched.people.come(400, 2 * DAY_S, errors=(0.3, 0.3))
    lost = (schema.enrolments.c.arm == "candidate") & schema.enrolments.c.unit.regexp_match("[13]")
    with watched.control.change() as tx:
        tx.connection.execute(delete(schema.enrolments).where(lost))


@pytest.mark.parametrize("people", ["half and half", "say nothing"])
def test_a_judge_that_always_likes_the_candidates_reply_lets_nobody_pass(
    control: Control, clock: ManualClock, folder: Path, people: str
) -> None:
    """One that always says the first is asked in both orders, and prefers neither (`test_judging`)."""
    rules = Operations(control, lambda: JUDGED, folder, clock)
    digest = trained(folder, [sample(n) for n in range(400)])
    rules.register(digest)
    label_all(control, digest, 1.0, clock.now_us(), JUDGE)
    asked = [one for one in control.comparisons.of(digest, None) if one.people]
    if people == "half and half":
        halves = [n % 2 for n in range(len(asked) // 2 * 2)] + [0.5] * (len(asked) % 2)  # how many are asked is drawn
        said = [
            ComparisonLabel(one.id, "anna", half, clock.now_us(), {}) for one, half in zip(asked, halves, strict=True)
        ]
        control.comparisons.label(said)
    else:
        clock.set_forward(JUDGED.compare.expires_s + 1)  # ties, by then
    rules.recount()
    shown = rules.show(digest)
    assert (shown["state"], shown["gate"]["codes"]) == ("held", ["too_few_comparisons"])
    assert shown["comparisons"]["counted"] == 400
    assert shown["gate"]["reasons"][0].startswith(f"blind comparisons: win rate 0.50 by people on {len(asked)}, ")
    assert shown["comparisons"]["agreed"] == (len(asked) // 2 if people == "half and half" else 0)
    with pytest.raises(Refused, match="the gate holds"):
        rules.approve(digest, evidence=shown["evidence"], reason="the judge likes it", actor="ada")


@pytest.mark.parametrize("why", ["too_slow", "away"])
def test_a_shadow_of_which_no_pair_comes_says_why_and_ends_on_hold(
    control: Control, clock: ManualClock, folder: Path, why: str
) -> None:
    rules = Operations(control, Settings, folder, clock)
    digest = make_candidate(folder)
    rules.register(digest)
    rules.attend_shadow()
    with control.read() as tx:
        under_way = read_shadow(tx.connection)
    assert under_way is not None
    for n in range(30):
        assert control.shadows.ask(under_way, "default", f"u-{n}", 2_000, clock.now_us()) == "asked"
        control.shadows.failed(digest, "default", f"u-{n}", why)
        clock.set_forward(under_way.max_s / 30)
    assert list(shadow_lines(rules.serving()["shadow"]))[1] == f"0 pairs; no pair came of 30 {why}"
    assert rules.attend_shadow() == "end: there is not enough evidence after 14 days"
    shown = rules.show(digest)
    assert (shown["state"], shown["stage"], shown["shadow"]["outcome"]) == ("held", "shadow", "held")
    refresh(control, clock.now_us())
    assert REGISTRY.get_sample_value("trimtab_shadow_held") == 1
    with pytest.raises(Refused, match="the gate holds"):
        rules.approve(digest, evidence=shown["evidence"], reason="it was away", actor="ada")
