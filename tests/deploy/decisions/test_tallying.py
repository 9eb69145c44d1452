"""Tallies: every unit in its stratum, with the rate that was known when that began, and each group by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploy.decisions.outcomes import tell
from deploy.decisions.tallying import ENOUGH, stage_of, tally
from deploy.rules.assignment import WINDOW_US, Arm, Enrolment
from deploy.rules.plan import EXPECTED, plan_of
from deploy.settings import RolloutSettings
from feedback.statistics.deciding import decide
from tests.deploy.decisions.people import TENANT, thumbs, turn_of

HOUR, DAY = 3_600_000_000, 86_400_000_000
START = 1_800_000_000_000_000
PLAN = plan_of(RolloutSettings(shares=(0.05, 0.5, 1.0), slices=("locale:es",)), 1)
assert PLAN is not None


def _enrolments(many: int, share: float, at_us: int, first: int = 0) -> list[Enrolment]:
    """Every second one is the candidate's."""
    arms: tuple[Arm, Arm] = ("incumbent", "candidate")
    return [
        Enrolment("r", TENANT, f"u{n}", 0, arms[n % 2], share, share, at_us + n) for n in range(first, first + many)
    ]


def test_a_stratum_is_a_stage_and_a_probability_and_its_rate_was_known_when_it_began() -> None:
    assert PLAN is not None
    early = _enrolments(2 * ENOUGH, 0.05, START)
    again = [
        replace(one, number=1, arm="candidate", probability=0.45 / 0.95, share=0.5, at_us=START + WINDOW_US + 1_000 + n)
        for n, one in enumerate(early[:10:2])
    ]
    late = _enrolments(20, 0.5, START + WINDOW_US + 2_000, first=1_000)
    turns = [turn_of(one.unit, one.at_us) for one in early]
    events = [(turn.occurred_at_us, turn) for turn in turns]
    disliked = [thumbs(turn, False, turn.occurred_at_us + HOUR + n) for n, turn in enumerate(turns) if n % 10 == 0]
    told = tell([*early, *again, *late], [*events, *((one.occurred_at_us, one) for one in disliked)])
    tallied = tally(PLAN, [*early, *again, *late], told, START + 30 * DAY, 1, 0)
    strata = tallied.tallies.strata["dislikes at 72 h"]
    assert strata.p.tolist() == pytest.approx([0.05, 0.45 / 0.95, 0.5])
    assert strata.stages.tolist() == [0, 1, 1]
    known = (20 + 0.5) / (ENOUGH + 1)  # every tenth dislikes, and they all are the incumbent's
    assert strata.m.tolist() == pytest.approx([EXPECTED["dislikes"], known, known])
    assert tallied.tallies.strata["dislikes at 1 h"].m.tolist() == pytest.approx(
        [EXPECTED["dislikes"], 0.5 / (ENOUGH + 1), 0.5 / (ENOUGH + 1)]
    )
    assert tallied.tallies.assigned.tolist() == [[ENOUGH, ENOUGH], [0, 5], [10, 10]]
    assert tallied.tallies.counts["dislikes at 72 h"].sum((0, 1)).tolist() == [2 * ENOUGH + 25 - 20, 20]


def test_a_group_holds_its_own_units_alone() -> None:
    assert PLAN is not None
    enrolments = _enrolments(8, 0.5, START)
    turns = [
        turn_of(one.unit, one.at_us, locale="es" if n < 3 else "de", outcome="error")
        for n, one in enumerate(enrolments)
    ]
    told = tell(enrolments, [(turn.occurred_at_us, turn) for turn in turns])
    counts = tally(PLAN, enrolments, told, START + 30 * DAY, 1, 0).tallies.counts
    assert counts["errors at 72 h"].tolist() == [[[0, 4], [0, 4]]]
    assert counts["errors at 72 h in locale:es"].tolist() == [[[0, 2], [0, 1]]]


def test_open_windows_are_assigned_and_not_closed() -> None:
    assert PLAN is not None
    enrolments = _enrolments(10, 0.5, START)
    tallied = tally(PLAN, enrolments, tell(enrolments, []), START + 2 * HOUR, 1, 0)
    assert (tallied.tallies.assigned.sum(), tallied.tallies.closed.sum()) == (10, 0)
    assert tallied.tallies.counts["silent at 1 h"].sum() == 1
    assert decide(tallied.tallies, PLAN).action == "wait"


def test_how_long_replies_took_is_told_by_the_arm_that_their_users_were_drawn_for() -> None:
    assert PLAN is not None
    enrolments = _enrolments(40, 0.5, START)
    turns = [turn_of(one.unit, one.at_us, usage={"latency_ms": 100.0 + n}) for n, one in enumerate(enrolments)]
    turns += [turn_of("u0", START + HOUR, usage={"latency_ms": "long"}), turn_of("u0", START + HOUR + 1)]
    told = tell(enrolments, [(turn.occurred_at_us, turn) for turn in turns])
    assert tally(PLAN, enrolments, told, START + 30 * DAY, 1, 0).latency_ms == {
        "candidate": {"median": 120.0, "p95": 137.0},
        "incumbent": {"median": 119.0, "p95": 136.0},
    }
    nobody = tally(PLAN, enrolments, tell(enrolments, []), START + 30 * DAY, 1, 0).latency_ms
    assert nobody == {"candidate": None, "incumbent": None}


@pytest.mark.parametrize(("share", "stage"), [(0.01, 0), (0.05, 0), (0.3, 0), (0.5, 1), (0.7, 1)])
def test_a_share_belongs_to_the_last_stage_that_it_has_reached(share: float, stage: int) -> None:
    assert PLAN is not None
    assert stage_of(PLAN, share) == stage
