"""What a replay tells: the same in its document and on the screen, whatever people wrote and however little there was."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from deploy.replay.account import REWARD_MODEL, account, peak_memory_bytes, print_account
from deploy.replay.intake import Intake
from feedback.dataset.compute import compute
from feedback.dataset.snapshot import Manifest, Snapshot
from feedback.settings import WindowSettings
from tests.deploy.candidates import good_report
from tests.feedback.builders import AS_OF_US, MemoryFacts, rating, turn

TAKEN = Intake(9, 4, {"stars": 1, "thumbs": 2}, 1, {"bad_json": 1})
SECONDS = {"ingest": 1.234, "seal": 0.5, "train": 61.0}
KNOWN = {"majority_baseline": 0.6, "calibration_error": 0.1, "length_correlation": 0.2}
UNKNOWN = {"metric": "thumbs", "accuracy": None, "interval": [0.0, 1.0], "holdout": 0, **dict.fromkeys(KNOWN)}
"""What the job says where no label is in the gate split."""


def sealed(*events: Any) -> Snapshot:
    """A snapshot of these events, of which nothing is on disk."""
    _, counts = compute(MemoryFacts(events), AS_OF_US, WindowSettings())
    told = Manifest(format=1, name="s-1", dataset_hash="sha256:00", as_of_us=AS_OF_US, rules_version="1", window={},
                    counts=counts, rows={})  # fmt: skip
    return Snapshot(Path("s-1"), told)


def candidate(reward: dict[str, Any] | None = None, **report: Any) -> dict[str, Any]:
    """What `trimtab show --json` says of one."""
    told = good_report(**report)
    told["reward_model"] = reward or told["reward_model"] | KNOWN
    return {"digest": "c" * 64, "gate": {"decision": "hold", "reasons": ["nobody has compared"]}, "report": told}


def printed(found: dict[str, Any] | None, taken: Intake = TAKEN) -> str:
    """The screen."""
    console = Console(file=io.StringIO(), width=120)
    print_account(console, account(taken, sealed(), SECONDS, found), found)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_the_document_accounts_for_every_event_and_is_json() -> None:
    document = account(TAKEN, sealed(), SECONDS, None)
    assert json.loads(json.dumps(document)) == document
    seen = document["turns"] + document["duplicates"]
    assert document["events"] == seen + sum(document["ratings"].values()) + sum(document["dead_letters"].values())
    assert document["seconds"] == {"ingest": 1.23, "seal": 0.5, "train": 61.0}


def test_events_in_which_something_was_replaced_are_told_where_there_are_any() -> None:
    replaced = msgspec.structs.replace(TAKEN, replaced_surrogates=3)
    assert account(replaced, sealed(), SECONDS, None)["replaced_surrogates"] == 3
    assert "3 events held halves of surrogate pairs" in printed(None, replaced)
    assert "surrogate" not in printed(None)


def test_labels_are_those_of_the_snapshot_and_ratings_of_whole_conversations_are_told_apart() -> None:
    cut = turn("t2", finish_reason="length")
    told = sealed(turn("t1"), rating("a", "t1", "thumbs", True), rating("b", None, "stars", 4), cut)
    document = account(TAKEN, told, SECONDS, None)
    assert document["unpaired"] == told.counts.unpaired == {"thumbs": 1}
    assert document["conversation_ratings"] == {"stars": 1}
    assert document["untrainable"] == told.counts.untrainable == {"finish_length": 1}
    console = Console(file=io.StringIO(), width=120)
    print_account(console, document, None)
    screen = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 stars, of whole conversations" in screen
    assert "1 finish_length" in screen


def test_without_a_training_nothing_is_said_of_one() -> None:
    assert not {"candidate", "gate", "reward_model"} & account(TAKEN, sealed(), SECONDS, None).keys()
    assert "Gate" not in printed(None)


def test_the_screen_says_what_was_learned_and_what_the_gate_thinks_of_it() -> None:
    told = printed(candidate())
    assert "accuracy 0.800 [0.700, 0.900] on 50 gate-split thumbs (always the majority: 0.600)" in told
    assert "Gate: hold\n  nobody has compared\n" in told
    assert set(account(TAKEN, sealed(), SECONDS, candidate())["reward_model"]) == set(REWARD_MODEL)


def test_a_reward_model_that_nothing_could_be_held_against_is_said_to_be_unknown() -> None:
    told = printed(candidate(UNKNOWN))
    assert "Reward model accuracy unknown: no label is in the gate split" in told
    assert "Gate: hold" in told


HOSTILE = "[red]all is well[/red] \x1b[2J\u202e [/"


def test_what_people_wrote_is_shown_and_never_obeyed() -> None:
    sample = {"prompt": [{"role": "user", "content": HOSTILE}], "candidate": HOSTILE, "incumbent": HOSTILE}
    found = candidate(samples=[sample])
    found["gate"]["reasons"] = [HOSTILE]
    told = printed(found, Intake(1, 0, {}, 0, {HOSTILE: 1}))
    assert told.count("[red]all is well[/red]") == 5
    assert not {"\x1b", "\u202e"} & set(told)


counts = st.dictionaries(st.sampled_from(["thumbs", "stars", "pick"]), st.integers(1, 10**9))


@settings(max_examples=25)
@given(ratings=counts, dead=counts, turns=st.integers(0, 10**9))
def test_any_counts_can_be_shown(ratings: dict[str, int], dead: dict[str, int], turns: int) -> None:
    told = printed(None, Intake(turns, turns, ratings, 0, dead))
    assert f"{turns:,} turns, {sum(ratings.values()):,} ratings" in told
    assert all(f"{value:,}" in told for value in (*ratings.values(), *dead.values()))


@pytest.mark.slow
def test_the_memory_of_a_child_that_ended_counts_and_that_of_whoever_started_us_does_not() -> None:
    looking = "from deploy.replay.account import peak_memory_bytes; print(peak_memory_bytes())"
    large = f"held = b'x' * 300_000_000; import subprocess, sys; subprocess.run([sys.executable, '-c', {looking!r}])"
    started = subprocess.run([sys.executable, "-c", large], capture_output=True, text=True, check=True)
    assert int(started.stdout) < 300_000_000
    waiting = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'b\"x\" * 300_000_000']); {looking}"
    waited = subprocess.run([sys.executable, "-c", waiting], capture_output=True, text=True, check=True)
    assert int(waited.stdout) > 300_000_000
    assert peak_memory_bytes() > 0
