"""The arms side by side: the verdict first, what it rests on below, and nothing known said as nothing known."""

from __future__ import annotations

import io

from rich.console import Console

from deploy.cli.arms_view import MISMATCH, arms_table, verdict_lines

LOOK = {
    "at": "2026-11-28T03:00:00Z",
    "action": "rollback",
    "reasons": ["errors at 1 h: candidate 40 of 100 bad, incumbent 1 of 90"],
    "units": {"candidate": 140, "incumbent": 1_300},
    "closed": {"candidate": 100, "incumbent": 90},
    "late": 2,
    "metrics": [
        {
            "metric": "errors", "age_h": 1.0, "slice": None, "bad": {"candidate": 40, "incumbent": 1},
            "of": {"candidate": 100, "incumbent": 90}, "difference": [0.21, 0.5],
            "log_evidence_of_harm": 9.2, "log_evidence_needed": 6.4,
        },
        {
            "metric": "errors", "age_h": 72.0, "slice": "locale:es", "bad": {"candidate": 0, "incumbent": 0},
            "of": {"candidate": 0, "incumbent": 0}, "difference": [-1.0, 1.0],
            "log_evidence_of_harm": 0.0, "log_evidence_needed": 7.6,
        },
    ],
}  # fmt: skip


def test_the_verdict_comes_first_with_its_reason_and_its_units() -> None:
    assert list(verdict_lines(LOOK)) == [
        "harm: the controller rolls back: errors at 1 h: candidate 40 of 100 bad, incumbent 1 of 90",
        "units: candidate 140 (100 closed), incumbent 1,300 (90 closed), looked at 2026-11-28T03:00:00Z; 2 events came too late to count",
    ]
    assert list(verdict_lines(LOOK | {"action": "wait", "metrics": []})) == [
        "not yet: errors at 1 h: candidate 40 of 100 bad, incumbent 1 of 90"
    ]


def test_a_hold_for_the_sample_ratio_says_what_to_do_and_one_for_something_else_does_not() -> None:
    rows = [{"counted": "closed", "log_evidence": log_e, "log_evidence_needed": 7.6} for log_e in (7.5, 7.6)]
    hold = LOOK | {"action": "hold"}
    assert list(verdict_lines(hold | {"sample_ratio": rows}))[1] == MISMATCH
    for other in (hold, hold | {"sample_ratio": rows[:1]}, LOOK | {"sample_ratio": rows}):
        assert MISMATCH not in list(verdict_lines(other))


def test_what_is_expected_how_long_replies_took_and_the_shares_stand_below_it() -> None:
    beside = {
        "outlook": {"per_day": 25.0, "decision_in_s": 1.6e6, "said": "at 25 new users a day it takes 19 days"},
        "latency_ms": {"candidate": {"median": 812.0, "p95": 2_100.0}, "incumbent": None},
        "periods": [
            {"share": 0.05, "since": "2026-11-20T03:00:00Z", "halted": False},
            {"share": 0.05, "since": "2026-11-21T03:00:00Z", "halted": True},
            {"share": 0.25, "since": "2026-11-24T03:00:00Z", "halted": False},
        ],
    }
    assert list(verdict_lines(LOOK | beside))[2:] == [
        "at 25 new users a day it takes 19 days",
        "half of the replies (95%) took at most: candidate 812 ms (2,100 ms)",
        "shares: 5% since 2026-11-20T03:00, halted since 2026-11-21T03:00, 25% since 2026-11-24T03:00",
    ]


def test_each_look_for_harm_has_a_row() -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(arms_table(LOOK))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for said in (
        "40 of 100 (40.0%)",
        "1 of 90 (1.1%)",
        "+21.0% to +50.0%",
        "9.9e+03, 602",
        "locale:es",
        "none yet",
        "unknown",
    ):
        assert said in text
