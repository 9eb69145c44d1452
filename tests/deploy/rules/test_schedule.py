"""When to retrain, as a table of cases."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.rules.schedule import Rejected, Since, Start, Wait, decide
from deploy.settings import ApproveSettings, TrainSettings

HOUR_US = 3_600_000_000
NOW_US = 1_790_000_000_000_000
RULES = TrainSettings(
    every_s=24 * 3_600, min_new_human_labels=100, min_new_verdicts=1_000, min_labels=20, backoff_s=600
)  # fmt: skip


def since(**changes: Any) -> Since:
    values: dict[str, Any] = {
        "last_started_us": NOW_US - HOUR_US, "last_ended_us": NOW_US - HOUR_US, "failures_in_a_row": 0,
        "new_human_labels": 5, "new_verdicts": 5, "labels": 500,
    }  # fmt: skip
    return Since(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "starts", "because"),
    [
        ({}, False, "5 new labels"),
        ({"new_human_labels": 100}, True, "100 new labels by people"),
        ({"new_verdicts": 1_000}, True, "1000 new verdicts"),
        ({"last_started_us": NOW_US - 25 * HOUR_US}, True, "25.0 h ago"),
        ({"last_started_us": NOW_US - 25 * HOUR_US, "new_human_labels": 0, "new_verdicts": 0}, False, "0 new labels"),
        ({"last_started_us": None, "last_ended_us": None}, True, "no training yet"),
        ({"labels": 19, "new_human_labels": 100}, False, "19 labels"),
        ({"failures_in_a_row": 1, "last_ended_us": NOW_US - 60_000_000}, False, "next try in 540 s"),
        ({"failures_in_a_row": 3, "last_ended_us": NOW_US - 1_800_000_000}, False, "next try in 600 s"),
        ({"failures_in_a_row": 1, "last_ended_us": NOW_US - HOUR_US}, True, "failed"),
        ({"failures_in_a_row": 40, "last_ended_us": NOW_US - 25 * HOUR_US}, True, "failed"),
    ],
)
def test_the_rules(changes: dict[str, Any], starts: bool, because: str) -> None:
    decided = decide(since(**changes), RULES, ApproveSettings(), NOW_US)
    assert isinstance(decided, Start if starts else Wait)
    assert because in decided.reason


ASKING = ApproveSettings(before=("train", "rollout"))


@pytest.mark.parametrize(
    ("no", "changes", "asks", "because"),
    [
        ((NOW_US, 0, 0), {}, False, "0 new labels by people and 0 new verdicts since a person said no"),
        ((NOW_US - HOUR_US, 99, 999), {}, False, "99 new labels by people and 999 new verdicts since"),
        ((NOW_US - HOUR_US, 100, 0), {}, True, "100 new labels by people (rule: 100) since a person said no"),
        ((NOW_US - HOUR_US, 0, 1_000), {}, True, "1000 new verdicts (rule: 1000) since a person said no"),
        ((NOW_US - 24 * HOUR_US, 0, 0), {}, True, "24.0 h since a person said no (rule: 24.0 h)"),
        ((NOW_US - 23 * HOUR_US, 0, 0), {}, False, "0 new labels"),
        ((NOW_US - 24 * HOUR_US, 0, 0), {"new_human_labels": 0, "new_verdicts": 0}, False, "0 new labels"),
        ((NOW_US - HOUR_US, 0, 0), {"failures_in_a_row": 1}, False, "0 new labels"),
        (
            (NOW_US - 24 * HOUR_US, 0, 0),
            {"failures_in_a_row": 1, "new_human_labels": 0, "new_verdicts": 0},
            True,
            "24.0 h",
        ),
        ((NOW_US - HOUR_US, 0, 0), {"last_started_us": None, "last_ended_us": None}, False, "0 new labels"),
        ((NOW_US - HOUR_US, 100, 0), {"labels": 19}, False, "19 labels"),
    ],
)
def test_after_a_no_only_what_is_new_since_then_is_another_question(
    no: tuple[int, int, int], changes: dict[str, Any], asks: bool, because: str
) -> None:
    due = {"last_started_us": NOW_US - 99 * HOUR_US, "new_human_labels": 500, "new_verdicts": 5_000}
    decided = decide(since(**(due | changes), rejected=Rejected(*no)), RULES, ASKING, NOW_US)
    assert isinstance(decided, Start if asks else Wait)
    assert because in decided.reason


def test_a_no_holds_nothing_up_where_nobody_is_asked_any_more() -> None:
    decided = decide(since(new_human_labels=100, rejected=Rejected(NOW_US, 0, 0)), RULES, ApproveSettings(), NOW_US)
    assert decided == Start("100 new labels by people (rule: 100)", needs_yes=False)


def test_after_a_no_nothing_is_asked_by_time_where_that_rule_is_off() -> None:
    rules = RULES.model_copy(update={"every_s": 0})
    long_ago = since(new_human_labels=500, rejected=Rejected(NOW_US - 9_999 * HOUR_US, 0, 0))
    assert isinstance(decide(long_ago, rules, ASKING, NOW_US), Wait)


def test_rules_that_are_switched_off_never_start_anything() -> None:
    off = RULES.model_copy(update={"every_s": 0, "min_new_human_labels": 0, "min_new_verdicts": 0})
    many = since(new_human_labels=10**6, new_verdicts=10**6, last_started_us=None, last_ended_us=None)
    assert isinstance(decide(many, off, ApproveSettings(), NOW_US), Wait)


def test_where_people_must_agree_it_says_so() -> None:
    decided = decide(since(new_human_labels=100), RULES, ApproveSettings(before=("train", "rollout")), NOW_US)
    assert decided == Start("100 new labels by people (rule: 100)", needs_yes=True)


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"failures_in_a_row": 3, "last_ended_us": NOW_US + 1_000 * HOUR_US}, "failed"),
        ({"last_started_us": NOW_US + 1_000 * HOUR_US}, "an unknown time (the clock was ahead then) ago"),
        (
            {"last_started_us": None, "rejected": Rejected(NOW_US + 1_000 * HOUR_US, 0, 0)},
            "an unknown time (the clock was ahead then) since a person said no",
        ),
    ],
)
def test_a_clock_that_was_ahead_and_came_back_holds_no_training_up(changes: dict[str, Any], because: str) -> None:
    decided = decide(since(**changes), RULES, ASKING, NOW_US)
    assert isinstance(decided, Start)
    assert because in decided.reason


def test_clocks_that_differ_by_a_minute_change_nothing() -> None:
    ahead_us = NOW_US + 60_000_000
    assert isinstance(decide(since(last_started_us=ahead_us), RULES, ApproveSettings(), NOW_US), Wait)
    failed = decide(since(failures_in_a_row=1, last_ended_us=ahead_us), RULES, ApproveSettings(), NOW_US)
    assert "next try in 600 s" in failed.reason
