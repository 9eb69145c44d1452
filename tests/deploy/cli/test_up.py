"""`trimtab up`, as it is typed where it can't start: one sentence, nothing on stdout, and nobody is started.

How its roles live and end is in tests/deploy/roles/test_supervisor.py.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from deploy.cli import up as module
from deploy.cli.common import FAILED, REFUSED, USAGE, Context
from deploy.cli.roles import ADMIN_OFFSET
from deploy.state import State, open_state
from tests.deploy.cli.typed import sentence, typed


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "configure", lambda _: None)  # the logs of this process are pytest's
    return open_state(tmp_path / ".trimtab")


@pytest.mark.parametrize("role", ["up", "controller", "worker", "trainer"])
def test_up_is_refused_while_somebody_else_plays_a_role(state: State, role: str) -> None:
    with state.lock(role):
        said = sentence(typed("up", "--state", state.root), REFUSED)
    assert f"the {role} of {state.root} is already running (process {os.getpid()})" in said


@pytest.mark.parametrize("option", ["--host", "--admin-host"])
def test_up_is_refused_beyond_this_machine_until_there_is_a_key(state: State, option: str) -> None:
    assert "trimtab keys create" in sentence(typed("up", option, "0.0.0.0", "--state", state.root), REFUSED)


def test_a_mistake_in_the_configuration_is_said_once_and_not_by_each_role(state: State) -> None:
    Path("trimtab.toml").write_text("[gate]\nmin_comparison = 3\n")
    assert "gate.min_comparison" in sentence(typed("up", "--state", state.root), FAILED)


def test_the_last_of_the_admin_ports_is_a_port_too(state: State) -> None:
    code, out, error = typed("up", "--admin-port", "65533", "--state", state.root)
    assert (code, out, "65532" in error) == (USAGE, "", True)


def test_the_addresses_that_are_told_are_those_that_each_role_gets(
    state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    told = Context(state.root, None, as_json=True), "http://127.0.0.1:8400/v1", "http://127.0.0.1", 9_000
    module._say_addresses(*told)
    document = json.loads(capsys.readouterr().out)
    assert document["admin"] == "http://127.0.0.1:9000"
    assert document["metrics"] == {
        name: f"http://127.0.0.1:{9_000 + offset}/metrics" for name, offset in ADMIN_OFFSET.items()
    }
