"""`trimtab shadow`, as it is typed, and how the shadow stage is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli.common import DONE, FAILED, REFUSED
from deploy.cli.shadow import shadow_lines
from deploy.control.store import open_control
from deploy.decisions.operations import Operations
from deploy.settings import Settings
from deploy.state import State, open_state
from tests.deploy.candidates import make_candidate
from tests.deploy.cli.typed import sentence, typed
from tests.fakes import CLOCK


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.chdir(tmp_path)
    return open_state(tmp_path / "state")


@pytest.fixture
def digest(state: State) -> str:
    """A candidate that lacks nothing but comparisons."""
    made = make_candidate(state.candidates)
    control = open_control(state.control)
    Operations(control, Settings, state.candidates, CLOCK).register(made)
    control.close()
    return made


def test_a_person_starts_it_looks_at_it_and_stops_it(state: State, digest: str) -> None:
    code, out, error = typed("shadow", "start", digest[:12], "--reason", "reads well", "--state", state.root)
    assert (code, error) == (DONE, "")
    assert out == f"{digest[:12]} is in the shadow: a copy of some turns goes to it, unseen\n"
    for looked in (typed("status", "--state", state.root).out, typed("show", digest, "--state", state.root).out):
        assert f"{digest[:12]} answers a copy of some turns, unseen, since" in " ".join(looked.split())
        assert "0 pairs" in looked
    assert "at stage shadow" in typed("show", digest, "--state", state.root).out
    code, out, _ = typed("shadow", "stop", "--reason", "the [bold]GPU[/bold]", "--state", state.root)
    assert (code, out) == (DONE, f"{digest[:12]} is out of the shadow\n")
    told = json.loads(typed("show", digest, "--json", "--state", state.root).out)["shadow"]
    assert (told["outcome"], told["why"], told["pairs"], told["failed"]) == ("stopped", "the [bold]GPU[/bold]", 0, {})
    assert json.loads(typed("status", "--json", "--state", state.root).out)["serving"]["shadow"] is None
    assert "(the [bold]GPU[/bold])" in typed("show", digest, "--state", state.root).out


def test_what_can_not_be_is_one_sentence(state: State, digest: str) -> None:
    assert "nothing to stop" in sentence(typed("shadow", "stop", "--state", state.root), REFUSED)
    assert "needs a reason" in sentence(typed("shadow", "start", digest, "--state", state.root), REFUSED)
    unknown = typed("shadow", "start", "ffff", "--reason", "r", "--state", state.root)
    assert "there is no candidate" in sentence(unknown, FAILED)


UNDER_WAY = {
    "candidate": "c" * 64,
    "since": "2026-11-24T10:00:00Z",
    "earliest_end": "2026-11-25T10:00:00Z",
    "latest_end": "2026-12-08T10:00:00Z",
    "ended_at": None,
    "outcome": None,
    "why": None,
    "pairs": 1_234,
    "last_pair_at": "2026-11-24T11:30:05.123Z",
    "failed": {"broke": 2, "too_slow": 1},
}


def test_it_is_told_since_when_how_long_at_most_and_what_came_of_it() -> None:
    assert list(shadow_lines(UNDER_WAY)) == [
        "cccccccccccc answers a copy of some turns, unseen, since 2026-11-24T10:00; until 2026-12-08T10:00 at the latest",
        "1,234 pairs, the last at 2026-11-24T11:30:05; no pair came of 2 broke, 1 too_slow",
    ]


def test_one_that_came_to_its_longest_asks_for_a_person() -> None:
    held = UNDER_WAY | {
        "ended_at": "2026-12-08T10:00:00Z",
        "outcome": "held",
        "why": "not enough evidence after 14 days",
    }
    said, count = shadow_lines(held | {"pairs": 0, "last_pair_at": None, "failed": {}})
    assert said == (
        "cccccccccccc was in the shadow from 2026-11-24T10:00 to 2026-12-08T10:00 (not enough evidence after 14 days): "
        "a person has to look"
    )
    assert count == "0 pairs"
