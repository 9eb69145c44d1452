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
WINDOW = PLAN.ages_us[-1] + PLAN.grace_us
STEADY = range(DAY // 50, WINDOW, DAY // 50)
"""When open units close, where 50 have come each day for long."""


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
    found = outlook(PLAN, Decision("wait", ("no",), MISSING), EVIDENCE, 5 * DAY, 50, STEADY)
    assert found.decision_in_s == pytest.approx(8 * 86_400, rel=0.01)
    assert found.range_s == pytest.approx((4 * 86_400, 18 * 86_400), rel=0.01)
    assert found.said == "at 50 new users a day the next decision is to be expected in 8 days (4 days to 18 days)"


def test_who_is_still_to_come_counts_once_his_window_is_over() -> None:
    assert PLAN is not None
    a_day_s, window_s = 86_400, WINDOW / 1e6
    begun = STEADY[-50:]  # they have come for a day: nobody has closed yet
    found = outlook(PLAN, Decision("wait", ("no",), MISSING), EVIDENCE, 5 * DAY, 50, begun)
    assert found.decision_in_s == pytest.approx((400 - 50) / 50 * a_day_s + window_s)
    assert found.range_s == pytest.approx(((200 - 50) / 50 * a_day_s + window_s, (900 - 50) / 50 * a_day_s + window_s))
    crowd = [DAY] * 1_000  # came together, and nobody since
    found = outlook(PLAN, Decision("wait", ("no",), MISSING), EVIDENCE, 5 * DAY, 1, crowd)
    assert (found.decision_in_s, found.range_s) == (a_day_s, (a_day_s, a_day_s))


def test_a_stage_lasts_its_minimum_whatever_the_traffic() -> None:
    assert PLAN is not None
    assert outlook(PLAN, Decision("wait", ("no",)), 0, DAY, 50, STEADY) == Outlook(
        50, 3 * 86_400, None, "the next decision is to be expected in 3 days"
    )
    many = range(0, WINDOW, DAY // 5_000)
    assert outlook(PLAN, Decision("wait", ("no",), MISSING), EVIDENCE, DAY, 5_000, many).decision_in_s == 3 * 86_400


@pytest.mark.parametrize(
    ("missing", "per_day_", "said"),
    [
        (MISSING, 8, "but this share may last 23 days more, then it is on hold: roll it back"),
        (MISSING | {"errors": None}, 50, "it can't be shown at any traffic"),
        (MISSING, 0, "nobody new has come for seven days"),
    ],
)
def test_what_never_comes_is_said(missing: dict[str, Forecast | None], per_day_: float, said: str) -> None:
    assert PLAN is not None
    found = outlook(PLAN, Decision("wait", ("no",), missing), EVIDENCE, 5 * DAY, per_day_, STEADY)
    assert found.decision_in_s is None
    assert said in found.said


@pytest.mark.parametrize(("action", "in_s"), [("hold", None), ("pause", None), ("advance", 0.0), ("rollback", 0.0)])
def test_where_a_person_has_to_look_or_it_is_decided_there_is_nothing_to_add(
    action: Action, in_s: float | None
) -> None:
    assert PLAN is not None
    assert outlook(PLAN, Decision(action, ("so",)), EVIDENCE, 5 * DAY, 50, STEADY) == Outlook(50, in_s, None, "")
