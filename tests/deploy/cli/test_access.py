"""Who is let in at a port that a command opens: what it needs before, and what is said of keys that open less than they name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from deploy.cli import roles
from deploy.cli import up as up_module
from deploy.cli.access import keys_needed, list_without_effect
from deploy.cli.common import Context
from deploy.control import schema
from deploy.errors import Refused
from deploy.state import State, open_state
from tests.deploy.cli.test_common import document
from tests.deploy.cli.typed import typed

TRUST = "TRIMTAB_ACCESS__TRUST_LOOPBACK"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.chdir(tmp_path)
    for module in (roles, up_module):
        monkeypatch.setattr(module, "configure", lambda _: None)  # the logs of this process are pytest's
    return open_state(tmp_path / "state")


@pytest.fixture
def context(state: State) -> Iterator[Context]:
    context = Context(state.root, None, as_json=False)
    yield context
    context.control.close()


def old_key(context: Context) -> str:
    """As earlier versions made them: bound to a tenant, and with scopes that act on the deployment."""
    _, key = context.control.keys.create("old on-call", None, ["read", "operate"], "ada", context.clock.now_us())
    with context.control.database.write() as connection:
        connection.execute(update(schema.keys).where(schema.keys.c.id == key.id).values(tenant="default"))
    return key.id


def test_beyond_this_machine_there_must_be_a_key_that_is_valid_now(context: Context) -> None:
    now_us, keys = context.clock.now_us(), context.control.keys
    with pytest.raises(Refused, match="there are no keys yet: make one with `trimtab keys create"):
        keys_needed(context, "0.0.0.0")
    _, key = keys.create("app", None, ["chat"], "ada", now_us)
    assert keys_needed(context, "0.0.0.0")
    keys.create("expired", None, ["chat"], "ada", now_us - 10, now_us - 5)
    keys.revoke(key.id, "ada", now_us)
    with pytest.raises(
        Refused, match=r"0\.0\.0\.0 is reachable from other machines and every key is revoked or expired: make"
    ):
        keys_needed(context, "0.0.0.0")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_what_only_this_machine_reaches_opens_without(context: Context, host: str) -> None:
    assert not keys_needed(context, host)


def test_a_key_that_opens_less_than_it_names_is_a_line_in_the_log_until_it_is_revoked(context: Context) -> None:
    context.control.keys.create("on-call", None, ["operate"], "ada", context.clock.now_us())
    with capture_logs() as lines:
        list_without_effect(context)
        assert lines == []
        key_id = old_key(context)
        list_without_effect(context)
        (line,) = lines
        context.control.keys.revoke(key_id, "ada", context.clock.now_us())
        list_without_effect(context)
    assert lines == [line]
    assert (line["event"], line["log_level"], line["key"]) == ("key_without_effect", "warning", key_id)
    assert f"`trimtab keys revoke {key_id}`" in line["next"]


@pytest.mark.parametrize("words", [["up"], ["gateway"], ["controller", "--admin-port", "0"]])
def test_whoever_starts_what_has_doors_is_told_of_such_keys(
    context: Context, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    key_id = old_key(context)

    def far_enough(*_: object, **__: object) -> None:
        raise Refused("far enough")

    monkeypatch.setattr(State, "play", far_enough)
    monkeypatch.setattr(up_module, "supervise", far_enough)
    with capture_logs() as lines:
        typed(*words, "--state", context.state.root)
    assert [line["key"] for line in lines if line["event"] == "key_without_effect"] == [key_id]


def test_the_doctor_and_the_list_say_so_too(context: Context) -> None:
    key_id = old_key(context)
    (listed,) = document(context.state.root, "keys", "ls")
    assert "make one without a tenant" in listed["problem"]
    assert f"keys revoke {key_id}" in " ".join(typed("keys", "ls", "--state", context.state.root).out.split())
    findings = {finding["check"]: finding for finding in document(context.state.root, "doctor")}
    assert findings["keys"]["outcome"] == "warning"
    assert f"keys revoke {key_id}" in findings["keys"]["sentence"]


@pytest.mark.parametrize("words", [["up"], ["gateway"], ["controller"]])
def test_loopback_is_trusted_by_an_option_in_this_run_and_in_what_it_starts(
    state: State, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv(TRUST, "")
    with state.lock("up"), state.lock("controller"):
        typed(*words, "--trust-loopback", "--admin-host", "0.0.0.0", "--state", state.root)
    assert os.environ[TRUST] == "true"
    assert Context(state.root, None, as_json=False).settings.access.trust_loopback
