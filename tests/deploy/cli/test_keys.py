"""`trimtab keys`, as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.state import open_state
from tests.deploy.cli.test_common import document, typed


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return open_state(tmp_path / "state").root


def test_keys_are_made_listed_and_revoked_and_shown_once(state: Path) -> None:
    made = document(state, "keys", "create", "--name", "app", "--scope", "chat", "--scope", "read")
    assert made["token"].startswith("tt_")
    code, out, _ = typed(state, "keys", "ls")
    assert (code, made["id"] in out, made["token"] in out) == (0, True, False)
    assert document(state, "keys", "revoke", made["id"])["state"] == "revoked"
    assert document(state, "keys", "ls")[0]["state"] == "revoked"
    assert typed(state, "keys", "create", "--name", "app", "--scope", "root")[0] == 2
    assert typed(state, "keys", "revoke", "nope")[0] == 1


@pytest.mark.parametrize("key_id", ["nope", "\udcff", "", "[b]x"])
def test_revoking_what_is_no_key_says_where_the_keys_are(state: Path, key_id: str) -> None:
    code, out, error = typed(state, "keys", "revoke", key_id)
    assert (code, out) == (1, "")
    assert error.startswith("trimtab: there is no key ")
    assert error.endswith("`trimtab keys ls` lists them by id")


def test_a_key_without_a_name_is_not_made(state: Path) -> None:
    code, _, error = typed(state, "keys", "create", "--name", " \n", "--scope", "chat")
    assert (code, "a key needs a name" in error) == (1, True)
    assert typed(state, "keys", "ls")[:2] == (0, "there are no keys yet: trimtab keys create --name … --scope …")


def test_a_key_is_bound_to_a_tenant_or_acts_on_the_deployment_and_never_both(state: Path) -> None:
    whole = document(state, "keys", "create", "--name", "on-call", "--scope", "read", "--scope", "operate")
    assert whole["tenant"] is None
    bound = document(state, "keys", "create", "--name", "shop", "--scope", "chat", "--tenant", "acme")
    assert (bound["tenant"], bound["problem"]) == ("acme", None)
    for scope in ("operate", "approve"):
        code, out, error = typed(
            state, "keys", "create", "--name", "x", "--scope", "chat", "--scope", scope, "--tenant", "acme"
        )
        assert (code, out) == (3, "")
        assert f"{scope} acts on the deployment as a whole" in error
        assert "leave --tenant out, or the scope" in error
    assert {key["name"] for key in document(state, "keys", "ls")} == {"on-call", "shop"}
    listed = typed(state, "keys", "ls")[1]
    assert ("acme" in listed, "warning" in listed) == (True, False)


def test_a_tenant_without_a_name_is_none(state: Path) -> None:
    code, _, error = typed(state, "keys", "create", "--name", "x", "--scope", "chat", "--tenant", " ")
    assert (code, "a tenant needs a name" in error) == (1, True)


def test_a_key_may_expire_by_days(state: Path) -> None:
    made = document(state, "keys", "create", "--name", "app", "--scope", "chat", "--days", "36500")
    assert made["expires_at"] > made["created_at"]
    assert made["state"] == "valid"
    assert typed(state, "keys", "create", "--name", "app", "--scope", "chat", "--days", "0")[0] == 2
