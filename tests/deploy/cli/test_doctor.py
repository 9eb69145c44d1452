"""`trimtab doctor`, as it is typed."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from deploy.console.port import admin_app
from deploy.parts import note_engine
from deploy.roles.presence import Presence, present, this_process
from deploy.serving_settings import EngineSettings
from deploy.settings import Settings
from deploy.state import State, open_state
from tests.deploy.cli.test_common import document, typed
from tests.deploy.gateway.test_orphans import left_by
from tests.deploy.gateways import served
from tests.fakes import CLOCK


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return open_state(tmp_path / "state").root


def outcomes(state: Path) -> dict[str, Any]:
    return {finding["check"]: finding["outcome"] for finding in document(state, "doctor")}


def test_a_fresh_directory_is_healthy_and_what_is_missing_is_a_warning(state: Path) -> None:
    found = outcomes(state)
    assert list(found) == [
        "version", "config", "state", "disk", "log", "control", "keys", "events", "rubric", "judge", "engine",
        "roles", "ports", "gateways", "base"
    ]  # fmt: skip
    assert {name for name, outcome in found.items() if outcome != "ok"} - {"disk", "ports"} == {"events", "judge"}
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


def sentences(state: Path) -> dict[str, str]:
    return {finding["check"]: finding["sentence"] for finding in document(state, "doctor")}


def played(state: Path, role: str, admin: str | None = None) -> AbstractContextManager[None]:
    its = this_process(role, 1, CLOCK.now_us(), None)
    return present(state, Presence(role, 1, its.pid, its.host, its.started_at_us, admin))


async def test_the_roles_that_run_are_named_and_what_is_wrong_with_one_is_said(state: Path) -> None:
    assert sentences(state)["roles"].startswith("none runs here")
    async with served(admin_app(lambda: None)) as well, served(admin_app(lambda: "no base model yet")) as waits:
        with State(state).lock("worker"), played(state, "worker", well):
            found = await asyncio.to_thread(document, state, "doctor")
            (roles,) = [finding for finding in found if finding["check"] == "roles"]
            assert roles["outcome"] == "ok"
            assert roles["sentence"].startswith(f"worker ready (process {os.getpid()}, started ")
        with played(state, "gateway", waits):
            said = (await asyncio.to_thread(sentences, state))["roles"]
            assert said == f"the gateway (process {os.getpid()}) is not ready: no base model yet"
    with played(state, "trainer", "http://127.0.0.1:9"):
        assert (
            f"does not answer on http://127.0.0.1:9: if it stays so it hangs, so stop it (kill {os.getpid()})"
            in (sentences(state)["roles"])
        )


def test_a_role_that_died_and_a_lock_that_nobody_answers_for_are_named_with_what_to_do(state: Path) -> None:
    with played(state, "worker"):
        (note,) = (state / "roles").iterdir()
        left = note.read_bytes()
    note.write_bytes(left)
    with State(state).lock("controller"):
        said = sentences(state)["roles"]
        assert f"the worker (process {os.getpid()}) died: start it again" in said
        assert f"process {os.getpid()} plays the controller and does not say so" in said
        (state / "locks" / "controller").write_text("999999999")
        assert (
            "is held by something that the controller started, which was process 999999999 and is gone"
            in (sentences(state)["roles"])
        )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who listens")
def test_a_port_that_somebody_else_has_is_named_with_who_that_is(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = int(other.getsockname()[1])
        monkeypatch.setattr("deploy.cli.doctor.PORT", port)
        said = sentences(state)["ports"]
        assert f"{port}, where the gateway would listen, is taken by process {os.getpid()} (" in said
        assert "start the gateway with another --port" in said
        with played(state, "gateway"):
            assert str(port) not in sentences(state)["ports"]


def test_a_disk_that_is_full_fails(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.cli.doctor.free_bytes", lambda _: 10e6)
    code, out, _ = typed(state, "doctor")
    assert (code, "failed disk full, 10 MB are left" in out) == (1, True)
