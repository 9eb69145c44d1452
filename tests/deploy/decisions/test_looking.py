"""Looking shows what there is, in pages, and writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import text

from deploy.control.history import first_broken
from deploy.control.records import UnknownCandidate
from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.errors import Failed
from deploy.rules.reasons import HOW_TO_COMPARE
from tests.deploy.candidates import make_candidate
from tests.deploy.decisions.approving import HOLD, approve
from tests.fakes import ManualClock


def test_a_new_candidate_is_listed_with_the_gates_decision_and_its_seal(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    (view,) = rules.candidates()
    assert view == {
        "digest": digest,
        "created_at": "2023-11-14T22:13:20Z",
        "snapshot": "s-1",
        "state": "held",
        "stage": "gate",
        "share": 0.0,
        "gate": {
            "decision": "hold",
            "reasons": [f"blind comparisons: none yet ({HOW_TO_COMPARE}): hold"],
            "codes": ["too_few_comparisons"],
        },
        "evidence": view["evidence"],
        "evidence_age_s": 0,
    }
    assert len(view["evidence"]) == 64


def test_candidates_are_listed_newest_first(rules: Operations, folder: Path) -> None:
    old, new = make_candidate(folder, 1, created_at_us=1), make_candidate(folder, 2, created_at_us=2)
    assert rules.discover() == []
    assert [view["digest"] for view in rules.candidates()] == [new, old]


def test_a_unique_prefix_is_enough_and_others_name_the_matches(rules: Operations, folder: Path) -> None:
    digests = [make_candidate(folder, seed) for seed in range(20)]
    rules.discover()
    assert rules.show(digests[0][:10])["digest"] == digests[0]
    assert rules.show(f"tt-{digests[0][:16]}")["digest"] == digests[0]
    twice = next(a[0] for a in digests if sum(b[0] == a[0] for b in digests) > 1)
    with pytest.raises(UnknownCandidate, match=f"more than one candidate begins with '{twice}': {twice}"):
        rules.show(twice)
    for unknown in ("xyz", "", "%", "_" * 64):
        with pytest.raises(UnknownCandidate, match="there is no candidate"):
            rules.show(unknown)


def test_looking_writes_nothing(
    control: Control, clock: ManualClock, folder: Path, rules: Operations, tmp_path: Path
) -> None:
    digests = [make_candidate(folder, seed) for seed in range(3)]
    rules.register(digests[0])
    clock.set_forward(72 * 3600)
    with control.read() as tx:
        before = tx.connection.execute(text("PRAGMA data_version")).scalar(), tx.history(), tx.digests()
        rules.candidates()
        rules.serving()
        rules.history()
        rules.periods()
        rules.unregistered()
        assert (tx.connection.execute(text("PRAGMA data_version")).scalar(), tx.history(), tx.digests()) == before
    (view,) = rules.candidates()
    assert view["evidence_age_s"] == 72 * 3600


def test_the_list_comes_in_pages(rules: Operations, folder: Path) -> None:
    made = [make_candidate(folder, seed, created_at_us=seed // 2) for seed in range(7)]
    assert rules.discover() == []
    seen, after = list[str](), None
    while page := rules.candidates(3, after):
        seen += [view["digest"] for view in page]
        after = seen[-1]
    assert sorted(seen) == sorted(made)
    assert seen == [view["digest"] for view in rules.candidates(None)]


def test_shares_and_their_periods_can_be_asked_for(rules: Operations, clock: ManualClock, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest, **HOLD)
    for _ in range(2):
        clock.set_forward(3600)
        rules.promote(actor="ada")
    clock.set_forward(60)
    rules.halt(actor="ben", reason="smoke")
    clock.set_forward(60)
    rules.resume(actor="ben")
    clock.set_forward(3600)
    rules.rollback(actor="ada")
    told = [(period["candidate"], period["share"], period["halted"]) for period in reversed(rules.periods())]
    assert told == [
        (None, 0.0, False),
        (digest, 0.05, False),
        (digest, 0.25, False),
        (digest, 0.25, True),
        (digest, 0.25, False),
        (None, 0.0, False),
    ]
    periods = list(reversed(rules.periods()))
    assert [period["to"] for period in periods[:-1]] == [period["from"] for period in periods[1:]]
    assert periods[-1]["to"] is None
    assert [period["share"] for period in rules.show(digest)["shares"]] == [0.25, 0.25, 0.25, 0.05]


def test_every_change_is_in_the_history_with_who_and_why(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    approve(rules, digest, **HOLD)
    rules.promote(actor="bob", reason="\x1b[31mred\n alert")
    rules.pause(actor="bob")
    rules.halt(actor="eve", reason="panic")
    told = [(e.actor, e.action, e.before, e.after, e.reason) for e in reversed(rules.control.history())]
    assert told[2:] == [
        ("ada", "approve", "held", "approved", "reads well"),
        ("bob", "promote", "approved", "canary", "\ufffd[31mred alert"),
        ("bob", "pause", "canary", "paused", ""),
        ("eve", "halt", "serving", "halted", "panic"),
    ]
    shares = [event["data"]["share"] for event in rules.history() if event["action"] in ("promote", "pause")]
    assert shares == [0.05, 0.05]
    with rules.control.database.read() as connection:
        assert first_broken(connection) is None


def test_a_report_with_numbers_that_are_none_can_still_be_shown(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder, probes={"largest_difference": float("nan")})
    rules.register(digest)
    view = rules.show(digest)
    assert view["report"]["probes"]["largest_difference"] is None
    assert view["gate"]["reasons"] == ["not finite: probes.largest_difference"]
    json.dumps(view, allow_nan=False)


def test_a_candidate_whose_directory_is_gone_is_still_listed(rules: Operations, folder: Path) -> None:
    digest = make_candidate(folder)
    rules.register(digest)
    (folder / digest).rename(folder.parent / "elsewhere")
    assert rules.candidates()[0]["state"] == "held"
    assert rules.show(digest)["report"] is None
    with pytest.raises(Failed, match="can't be used"):
        approve(rules, digest, **HOLD)
