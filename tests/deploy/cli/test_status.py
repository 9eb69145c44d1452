"""`trimtab status`, as it is typed: one screen, and one document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli import common
from deploy.cli.common import DONE
from deploy.control.store import open_control
from deploy.parts import open_log
from deploy.settings import Settings
from deploy.state import State, open_state
from feedback.intake.edge import Record
from tests.deploy.candidates import make_candidate
from tests.deploy.cli.typed import typed
from tests.fakes import CLOCK


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common.stdout, "_width", 300)
    return open_state(tmp_path / "a [b] c")


def screen(state: State) -> list[str]:
    code, out, error = typed("status", "--state", state.root)
    assert (code, error) == (DONE, "")
    return [" ".join(line.split()) for line in out.splitlines()]


def test_a_fresh_directory_says_that_there_is_nothing_yet_and_what_to_type(state: State) -> None:
    seen = screen(state)
    assert "waiting on the log nothing" in seen
    assert "dead letters none" in seen
    assert "facts turns 0, ratings 0, verdicts 0" in seen
    assert "newest snapshot none" in seen
    assert "last training none" in seen
    assert seen[-1].startswith("next: trimtab replay FILE")


def test_a_directory_is_shown_by_its_whole_name_whatever_that_is(state: State) -> None:
    assert screen(state)[0] == f"state {state.root}"


def test_what_waits_what_failed_and_what_is_halted_is_on_the_screen(state: State) -> None:
    log = open_log(state, Settings(), CLOCK)
    log.append([Record("turns.served", b"c", b"{}")] * 3)
    log.close()
    open_control(state.control).close()
    typed("halt", "--state", state.root)
    seen = screen(state)
    assert "waiting on the log turns.served 3" in seen
    assert any(line.startswith("serving HALTED: the bare base") for line in seen)
    assert seen[-1].startswith("next: trimtab resume")
    document = json.loads(typed("status", "--state", state.root, "--json").out)
    assert document["lag"]["turns.served"] == 3
    assert (document["serving"]["halted"], document["training"]["last"]) == (True, None)


def test_what_to_type_next_is_one_line_however_narrow_the_terminal(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that is cut in two is another command: `trimtab rollback` without its `--expect`."""
    open_control(state.control).close()
    typed("show", make_candidate(state.candidates), "--state", state.root)
    typed("halt", "--state", state.root)
    monkeypatch.setattr(common.stdout, "_width", 30)
    for command in ("status", "candidates"):
        line = typed(command, "--state", state.root).out.splitlines()[-1]
        assert line.startswith("next: trimtab resume --expect"), command
        assert line.endswith("(once it is safe)"), command
