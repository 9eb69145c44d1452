"""`trimtab doctor`, as it is typed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from deploy.parts import note_engine
from deploy.serving_settings import EngineSettings
from deploy.settings import Settings
from deploy.state import State, open_state
from tests.deploy.cli.test_common import document, typed
from tests.deploy.gateway.test_orphans import left_by


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return open_state(tmp_path / "state").root


def outcomes(state: Path) -> dict[str, Any]:
    return {finding["check"]: finding["outcome"] for finding in document(state, "doctor")}


def test_a_fresh_directory_is_healthy_and_what_is_missing_is_a_warning(state: Path) -> None:
    found = outcomes(state)
    assert list(found) == [
        "version", "config", "state", "disk", "log", "control", "keys", "events", "rubric", "judge", "engine", "gateways", "base"
    ]  # fmt: skip
    assert {name for name, outcome in found.items() if outcome != "ok"} - {"disk"} == {"events", "judge"}
    code, out, _ = typed(state, "doctor")
    assert (code, "no event yet: `trimtab replay FILE`" in out) == (0, True)


def test_a_directory_that_others_can_read_is_warned_of_with_what_to_type(state: Path) -> None:
    state.chmod(0o755)
    code, out, _ = typed(state, "doctor")
    assert (code, f"chmod 700 {state}" in out) == (0, True)


def test_after_a_broken_configuration_nothing_else_is_looked_at(state: Path) -> None:
    (state.parent / "trimtab.toml").write_text("[judge\n")
    code, out, error = typed(state, "doctor")
    assert (code, error) == (1, "")
    assert "failed config" in out
    assert "disk" not in out


def test_one_failed_check_does_not_hide_the_others(state: Path) -> None:
    (state.parent / "trimtab.toml").write_text('[judge]\nrubric = "none.md"')
    code, out, _ = typed(state, "doctor")
    assert code == 1
    assert "failed rubric" in out
    assert "warning judge" in out


def test_damaged_facts_are_a_finding_and_the_rest_is_looked_at_all_the_same(state: Path) -> None:
    table = state / "facts" / "turns" / "_delta_log"
    table.mkdir(parents=True)
    (table / "00000000000000000000.json").write_text("garbage")
    code, out, error = typed(state, "doctor")
    assert (code, error, "failed events a file of the facts (turns) is damaged" in out) == (1, "", True)
    assert "base" in out


def test_records_that_a_dead_gateway_left_are_warned_of_with_what_to_do(state: Path) -> None:
    asyncio.run(left_by(State(state), 2, "a", "b"))
    code, out, _ = typed(state, "doctor")
    assert (code, "2 records in spool-2.db" in out, "start one (`trimtab up`" in out) == (0, True, True)
    with State(state).play("gateway"):
        assert "a gateway that runs sends them within" in typed(state, "doctor")[1]


def test_gateways_that_ask_different_engines_are_named_with_what_each_asks(state: Path) -> None:
    first = EngineSettings(kind="openai", urls=("http://gpu-1:8000/v1/",), model="m")
    second = EngineSettings(kind="openai", urls=("http://gpu-2:8000/v1",), model="m")
    directory = State(state)
    with directory.play("gateway"), directory.play("gateway"):
        note_engine(directory, Settings(engine=first), 1)
        note_engine(directory, Settings(engine=second), 2)
        _, out, _ = typed(state, "doctor")
        assert "different engines" in out
        for part in (
            f"gateway 1 (process {os.getpid()}) asks m at http://gpu-1:8000/v1 (",
            "asks m at http://gpu-2:8000/v1",
        ):
            assert part in out
        note_engine(directory, Settings(engine=first), 2)
        assert "different engines" not in typed(state, "doctor")[1]
