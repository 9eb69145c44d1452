"""One role in a process of its own: who may be reached from elsewhere, and that it is played once."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.cli import roles
from deploy.cli.common import REFUSED, USAGE
from deploy.cli.roles import ADMIN_OFFSET
from deploy.state import State, open_state
from tests.deploy.cli.typed import sentence, typed
from tests.deploy.decisions.approving import serves


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(roles, "configure", lambda _: None)  # the logs of this process are pytest's
    return open_state(tmp_path / "state")


@pytest.mark.parametrize("words", [["gateway", "--host"], ["controller", "--admin-host"]])
def test_beyond_this_machine_a_role_is_refused_until_there_is_a_key(state: State, words: list[str]) -> None:
    said = sentence(typed(*words, "0.0.0.0", "--state", state.root), REFUSED)
    assert "trimtab keys create" in said
    assert "127.0.0.1" in said


@pytest.mark.parametrize("role", [role for role in ADMIN_OFFSET if role != "gateway"])
def test_a_role_that_is_played_already_is_refused_with_its_process(state: State, role: str) -> None:
    with state.lock(role):
        said = typed(role, "--admin-port", "0", "--state", state.root)
    assert f"the {role} of {state.root} is already running (process" in sentence(said, REFUSED)


@pytest.mark.parametrize("role", ADMIN_OFFSET)
def test_a_port_that_is_none_is_wrong_usage(state: State, role: str) -> None:
    code, out, error = typed(role, "--admin-port", "65536", "--state", state.root)
    assert (code, out, "--admin-port" in error) == (USAGE, "", True)


@pytest.mark.parametrize("role", ["up", "gateway"])
def test_an_engine_that_takes_no_adapters_is_refused_where_one_is_to_be_served(
    state: State, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.cli.up.configure", lambda _: None)
    serves(state)
    Path("trimtab.toml").write_text("[engine]\nkind = 'openai'\nurls = ['http://127.0.0.1:9/v1']\nmodel = 'm'\n")
    said = typed(role, "--state", state.root)
    assert "this engine takes no adapters" in sentence(said, REFUSED)
