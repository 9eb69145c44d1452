"""Bearer keys: shown once, stored hashed, worthless once revoked or expired."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from deploy.control import schema
from deploy.control.keys import SCOPES, without_effect
from deploy.control.store import Control
from deploy.errors import Failed, Refused


def test_a_token_opens_what_its_scopes_say_for_its_tenant(control: Control) -> None:
    token, key = control.keys.create(" app ", "acme", ["feedback", "chat"], "ada", 1)
    assert token.startswith("tt_")
    found = control.key(token, 2)
    assert found == key
    assert (key.name, key.tenant) == ("app", "acme")
    assert key.allows("chat")
    assert key.allows("feedback")
    assert not key.allows("approve")


def test_a_key_without_a_tenant_opens_what_acts_on_the_deployment(control: Control) -> None:
    token, key = control.keys.create("on-call", None, ["approve", "operate", "read"], "ada", 1)
    found = control.key(token, 2)
    assert found == key
    assert found is not None
    assert found.tenant is None
    assert all(map(found.allows, ("approve", "operate", "read")))
    assert without_effect(found) is None


@pytest.mark.parametrize("scope", ["operate", "approve"])
def test_a_tenants_key_that_acts_on_the_deployment_is_not_made(control: Control, scope: str) -> None:
    with pytest.raises(Refused, match="leave --tenant out, or the scope"):
        control.keys.create("on-call", "acme", ["chat", scope], "ada", 1)
    assert control.keys.list() == []


def test_one_that_an_earlier_version_made_opens_the_rest_of_what_it_names(control: Control) -> None:
    token, key = control.keys.create("on-call", None, ["approve", "operate", "read"], "ada", 1)
    with control.database.write() as connection:
        connection.execute(update(schema.keys).values(tenant="default"))
    found = control.key(token, 2)
    assert found is not None
    assert [scope for scope in SCOPES if found.allows(scope)] == ["read"]
    assert "approve and operate act on the whole deployment" in (without_effect(found) or "")
    assert f"trimtab keys revoke {key.id}" in (without_effect(found) or "")


def test_there_are_keys_until_the_last_is_revoked_and_time_alone_changes_nothing(control: Control) -> None:
    assert not control.keyed()
    _, key = control.keys.create("app", None, ["chat"], "ada", 1, expires_at_us=10)
    assert control.keyed(), "an expired one counts: no door opens because time goes by"
    control.keys.revoke(key.id, "ada", 20)
    assert not control.keyed()


def test_the_token_is_stored_nowhere(control: Control, tmp_path: Path) -> None:
    token, _ = control.keys.create("app", "t", ["chat"], "ada", 1)
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("control.db*"))
    assert b"app" in stored
    assert token.encode() not in stored
    assert token.removeprefix("tt_").encode() not in stored
    assert token not in repr(control.keys.list())


def test_a_revoked_key_opens_nothing_and_revoking_again_is_fine(control: Control) -> None:
    token, key = control.keys.create("app", "t", ["chat"], "ada", 1)
    assert control.keys.revoke(key.id, "ada", 2, "lost") == control.keys.revoke(key.id, "bob", 3)
    assert control.key(token, 4) is None
    assert [entry.action for entry in control.history()] == ["keys revoke", "keys create"]


def test_an_expired_key_opens_nothing(control: Control) -> None:
    token, _ = control.keys.create("app", "t", ["chat"], "ada", 1, expires_at_us=10)
    assert control.key(token, 9) is not None
    assert control.key(token, 10) is None


@given(guess=st.text(max_size=300) | st.text(max_size=50).map("tt_{}".format))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_any_other_text_opens_nothing(control: Control, guess: str) -> None:
    assert control.key(guess, 2) is None


@pytest.mark.parametrize(
    ("name", "scopes", "expires_at_us", "said"),
    [
        ("app", ["chat", "root"], None, "unknown scope root"),
        ("app", [], None, "at least one scope"),
        (" ", ["chat"], None, "needs a name"),
        ("app", ["chat"], 1, "expired from the start"),
    ],
)
def test_a_key_that_makes_no_sense_is_one_sentence(
    control: Control, name: str, scopes: list[str], expires_at_us: int | None, said: str
) -> None:
    with pytest.raises(Failed, match=said):
        control.keys.create(name, "t", scopes, "ada", 1, expires_at_us)
    assert control.keys.list() == []


def test_an_unknown_key_cannot_be_revoked(control: Control) -> None:
    with pytest.raises(Failed, match="keys ls"):
        control.keys.revoke("nope", "ada", 1)
