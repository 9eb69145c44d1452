"""Views: what is decided as documents that any JSON parser takes, and as words that a person reads at a glance."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.control.history import Entry
from deploy.control.records import Approval, Candidate, Period, Seal, ShadowEnded, ShadowTally
from deploy.decisions.views import (
    became,
    described,
    described_approval,
    described_candidate,
    described_periods,
    described_shadow,
    finite,
    look_at,
    served,
    shown_state,
)
from deploy.rules.assignment import Shadow
from deploy.rules.next_step import Lacks
from deploy.rules.rollout import CandidateState, Rollout, Serving

A, B = "a" * 64, "b" * 64
NOW_US = 1_700_000_000_000_000
CANDIDATE = Candidate(A, "s-1", "sha256:0", "0" * 64, NOW_US, NOW_US, "canary", "canary", seal="1" * 64)
CANARY = Serving((None, B), Rollout("r-1", A, "canary", 0.05, NOW_US))
SEAL = Seal("1" * 64, A, "pass", (), {}, NOW_US, 2)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


def plain(value: Any) -> bool:
    """Whether JSON can say it."""
    if isinstance(value, dict):
        return all(plain(part) for part in value.values())
    if isinstance(value, list):
        return all(plain(part) for part in value)
    return not isinstance(value, float) or math.isfinite(value)


@given(VALUES)
def test_whatever_a_report_holds_is_json_and_what_is_json_stays_as_it_was(value: Any) -> None:
    text = json.dumps(finite(value), allow_nan=False)
    assert (json.loads(text) == value) == plain(value)


@pytest.mark.parametrize(
    ("state", "serving", "shown"),
    [
        ("canary", CANARY, "canary"),
        ("canary", replace(CANARY, halted=True), "halted"),
        ("paused", replace(CANARY, halted=True), "halted"),
        ("approved", replace(CANARY, halted=True), "approved"),
        ("superseded", Serving((None, A, B), halted=True), "superseded"),
        ("full", Serving((None, A), halted=True), "halted"),
        ("full", Serving((None, A)), "full"),
    ],
)
def test_halted_is_shown_of_what_would_be_serving_and_of_nothing_else(
    state: CandidateState, serving: Serving, shown: CandidateState
) -> None:
    assert shown_state(replace(CANDIDATE, state=state), serving) == shown


def test_a_candidate_is_shown_with_its_share_and_how_old_its_evidence_is() -> None:
    view = described_candidate(CANDIDATE, SEAL, CANARY, NOW_US + 3_999_999)
    assert (view["share"], view["evidence"], view["evidence_age_s"], view["state"]) == (0.05, "1" * 64, 3, "canary")
    assert view["gate"] == {"decision": "pass", "reasons": [], "codes": []}


def test_evidence_that_a_clock_ahead_of_ours_sealed_is_no_age_below_zero() -> None:
    assert described_candidate(CANDIDATE, SEAL, CANARY, NOW_US - 1)["evidence_age_s"] == 0


def test_a_candidate_whose_seal_is_history_shows_no_evidence_that_could_be_approved() -> None:
    view = described_candidate(CANDIDATE, None, CANARY, NOW_US)
    assert (view["gate"], view["evidence"], view["evidence_age_s"]) == (None, None, None)
    assert (look_at(CANDIDATE, None).seal, look_at(CANDIDATE, SEAL).seal) == (None, "1" * 64)


def test_what_comparisons_alone_would_end_says_who_still_has_to_speak_of_how_many() -> None:
    few = {"code": "too_few_comparisons", "figures": {"wait_people": 3, "wait_second": 1, "wait_judge": 4}}
    told = {"code": "few_gate_labels", "figures": {"few": "few"}}
    held = replace(SEAL, decision="hold", reasons=[few, told])
    assert look_at(CANDIDATE, held, "under way").lacks == Lacks(3, 1, 4, "under way")
    assert look_at(CANDIDATE, replace(held, reasons=[few, {"code": "incumbent_empty", "figures": {}}])).lacks is None
    assert look_at(CANDIDATE, replace(held, reasons=[told])).lacks is None
    assert look_at(CANDIDATE, replace(held, decision="reject")).lacks is None
    early = {
        "code": "too_few_comparisons",
        "figures": {"count": 3, "needed": 20},
    }  # a seal of before evidence was counted
    assert look_at(CANDIDATE, replace(held, reasons=[early])).lacks == Lacks()


def test_what_is_served_names_the_rollout_and_what_a_rollback_would_go_back_to() -> None:
    assert served(CANARY, None) == {
        "incumbent": B,
        "earlier_incumbent": None,
        "halted": False,
        "revision": CANARY.revision,
        "rollout": {
            "id": "r-1",
            "candidate": A,
            "state": "canary",
            "share": 0.05,
            "approved_at": "2023-11-14T22:13:20Z",
            "look": None,
        },
    }
    assert served(Serving((None, A, B)), None)["earlier_incumbent"] == A
    assert (served(Serving(), None)["incumbent"], served(Serving(), None)["rollout"]) == (None, None)


@pytest.mark.parametrize(
    ("before", "after", "data", "said"),
    [
        ("approved", "canary", {"share": 0.05}, "approved → canary at 5%"),
        ("canary", "paused", {"share": 0.25}, "canary → paused at 25%"),
        ("canary", "full", {"share": 1.0}, "canary → full"),
        ("canary", "rolled_back", {"share": 0.0}, "canary → rolled_back"),
        ("serving", "halted", {"share": 0.0}, "serving → halted"),
        ("serving", "halted", None, "serving → halted"),
        (None, "trained", {"snapshot": "s"}, "new → trained"),
        ("chat", None, None, "chat → nothing"),
    ],
)
def test_what_became_of_something_is_said_with_its_share_where_it_has_one(
    before: str | None, after: str | None, data: dict[str, Any] | None, said: str
) -> None:
    assert became(described(Entry(NOW_US, "ada", "promote", A, before, after, "", data, 7))) == said


def test_every_field_of_an_entry_is_shown_under_its_name() -> None:
    entry = Entry(NOW_US, "ada", "promote", A, "approved", "canary", "why", {"share": 0.05}, 7)
    assert described(entry) == {
        "number": 7,
        "at": "2023-11-14T22:13:20Z",
        "actor": "ada",
        "action": "promote",
        "subject": A,
        "from": "approved",
        "to": "canary",
        "reason": "why",
        "data": {"share": 0.05},
    }


def test_the_period_that_now_is_has_no_end_and_one_that_ended_at_the_epoch_has() -> None:
    now = Period(NOW_US, None, B, "r-1", A, 0.05, False)
    ended = Period(0, 0, None, None, None, 0.0, True)
    assert [(view["from"], view["to"], view["halted"]) for view in described_periods([now, ended])] == [
        ("2023-11-14T22:13:20Z", None, False),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", True),
    ]


def test_an_approval_says_whether_a_hold_was_overridden() -> None:
    yes = described_approval(Approval("r-1", NOW_US, A, "1" * 64, "ada", "reads well", True))
    assert yes == {
        "at": "2023-11-14T22:13:20Z",
        "actor": "ada",
        "reason": "reads well",
        "override_hold": True,
        "seal": "1" * 64,
    }


def test_a_shadow_is_shown_as_it_runs_or_as_it_ended_with_what_came_of_it() -> None:
    tally = ShadowTally(3, 9_000_000, {"broke": 1})
    under_way = Shadow("s", "c" * 64, 1_000_000, 60, 120, "5a" * 32)
    ended = ShadowEnded("c" * 64, 1_000_000, 2_000_000, "stopped", "enough")
    assert described_shadow(None, None, tally) is None
    running, over = described_shadow(under_way, ended, tally), described_shadow(None, ended, tally)
    assert running == {
        "candidate": "c" * 64,
        "since": "1970-01-01T00:00:01Z",
        "earliest_end": "1970-01-01T00:01:01Z",
        "latest_end": "1970-01-01T00:02:01Z",
        "ended_at": None,
        "outcome": None,
        "why": None,
        "pairs": 3,
        "last_pair_at": "1970-01-01T00:00:09Z",
        "failed": {"broke": 1},
    }
    assert over is not None
    assert (over["ended_at"], over["outcome"], over["why"]) == ("1970-01-01T00:00:02Z", "stopped", "enough")
    assert over["latest_end"] is None
