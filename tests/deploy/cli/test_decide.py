"""Who decides, and with what: the account that types, and the rules beside a broken configuration."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from deploy.cli.common import Context
from deploy.cli.decide import actor, operations
from deploy.errors import Failed
from deploy.state import open_state
from tests.deploy.cli.test_common import document, typed


def test_the_history_names_the_account_whatever_the_environment_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody-else")
    state = open_state(tmp_path / "state").root
    assert typed(state, "halt")[0] == 0
    assert [entry["actor"] for entry in document(state, "history")] == [pwd.getpwuid(os.getuid()).pw_name]


def test_an_account_without_a_name_is_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    nameless = next(uid for uid in range(2**31 - 2, 0, -1) if not any(one.pw_uid == uid for one in pwd.getpwall()))
    monkeypatch.setattr(os, "getuid", lambda: nameless)
    assert actor() == f"uid {nameless}"


def test_a_broken_configuration_stops_only_the_rule_that_reads_it(tmp_path: Path) -> None:
    broken = tmp_path / "trimtab.toml"
    broken.write_text("[gate\n")
    context = Context(tmp_path / "state", broken, as_json=False)
    with operations(context) as rules:
        assert rules.candidates() == []
    with pytest.raises(Failed, match="is not valid TOML"):
        _ = context.settings
