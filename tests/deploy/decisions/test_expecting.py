"""What is to be expected: when the next decision comes at the traffic seen, and what never comes at it."""

from __future__ import annotations

import pytest

from deploy.decisions.expecting import Outlook, outlook, per_day
from deploy.rules.assignment import Enrolment
from deploy.rules.plan import plan_of
from deploy.settings import RolloutSettings
from feedback.statistics.deciding import Action, Decision
from feedback.statistics.forecast import Forecast

DAY = 86_400_000_000
START = 1_800_000_000_000_000
PLAN = plan_of(RolloutSettings(), 1)
assert PLAN is not None
EVIDENCE = PLAN.evidence_stage
MISSING = {"errors": Forecast(100, 400, 900), "dislikes": Forecast(200, 300, 500)}


def _enrolments(times: range) -> list[Enrolment]:
    return [Enrolment("r", "t", f"u{at_us}", 0, "incumbent", 0.5, 0.5, at_us) for at_us in times]


def test_traffic_is_that_of_the_last_seven_days_or_of_all_where_there_are_fewer() -> None:
    busy = _enrolments(range(START, START + 10 * DAY, DAY // 100))
    calm = _enrolments(range(START + 10 * DAY, START + 20 * DAY, DAY // 20))
    assert per_day([*busy, *calm], START + 20 * DAY) == pytest.approx(20)
    assert per_day(busy, START + 10 * DAY) == pytest.approx(100)
    assert per_day(busy[:50], START + DAY // 2) == pytest.approx(100)
    assert per_day(busy, START + 30 * DAY) == per_day([], START) == 0
    assert per_day(busy[:1], START) == 24


def test_the_guardrail_that_takes_longest_says_when() -> None:
    assert PLAN is not None
    found = outlook(PLAN, Decision("wait", ("no",), MISSING), EVIDENCE, 5 * DAY, 50)
    assert found == Outlook(
        50, 8 * 86_400, "at 50 new users a day the next decision is to be expected in 8 days (4 days to 18 days)"
    )


def test_a_stage_lasts_its_minimum_whatever_the_traffic() -> None:
    assert PLAN is not None
    assert outlook(PLAN, Decision("wait", ("no",)), 0, DAY, 50) == Outlook(
        50, 3 * 86_400, "the next decision is to be expected in 3 days"
    )
    assert outlook(PLAN, Decision("wait", ("no",), MISSING), EVIDENCE, DAY, 5_000).decision_in_s == 3 * 86_400


@pytest.mark.parametrize(
    ("missing", "per_day_", "said"),
    [
        (MISSING, 10, "but this share may last 23 days more, then it is on hold: roll it back"),
        (MISSING | {"errors": None}, 50, "it can't be shown at any traffic"),
        (MISSING, 0, "nobody new has come for seven days"),
    ],
)
def test_what_never_comes_is_said(missing: dict[str, Forecast | None], per_day_: float, said: str) -> None:
    assert PLAN is not None
    found = outlook(PLAN, Decision("wait", ("no",), missing), EVIDENCE, 5 * DAY, per_day_)
    assert found.decision_in_s is None
    assert said in found.said


@pytest.mark.parametrize(("action", "in_s"), [("hold", None), ("pause", None), ("advance", 0.0), ("rollback", 0.0)])
def test_where_a_person_has_to_look_or_it_is_decided_there_is_nothing_to_add(
    action: Action, in_s: float | None
) -> None:
    assert PLAN is not None
    assert outlook(PLAN, Decision(action, ("so",)), EVIDENCE, 5 * DAY, 50) == Outlook(50, in_s, "")
