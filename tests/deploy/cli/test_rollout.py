"""What the rollout's commands say: what is served now and what to type next, and why they won't."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli.common import DONE, FAILED, REFUSED
from deploy.cli.rollout import account
from deploy.state import open_state
from tests.deploy.cli.typed import sentence, typed


@pytest.mark.parametrize(
    ("rollout", "halted", "said"),
    [
        (None, False, "aaaaaaaaaaaa serves everything"),
        (
            {"candidate": "b" * 64, "share": 0.05, "state": "rising"},
            False,
            "aaaaaaaaaaaa serves 95%, bbbbbbbbbbbb serves 5% (rising)",
        ),
        (
            {"candidate": "b" * 64, "share": 0.05, "state": "rising"},
            True,
            "HALTED: the bare base serves everything (else: aaaaaaaaaaaa)",
        ),
    ],
)
def test_who_serves_how_much_is_one_line_and_a_halt_comes_first(rollout: object, halted: bool, said: str) -> None:
    serving = {
        "incumbent": "a" * 64,
        "rollout": rollout,
        "halted": halted,
        "next": "trimtab status",
        "because": [],
        "objections": [],
    }
    assert account(serving) == [said, "next: trimtab status"]
    objection = {"candidate": "c" * 64, "at": "2026-01-02", "actor": "eve", "reason": "it flatters"}
    blocked = "blocked: cccccccccccc: eve objects: it flatters (2026-01-02)"
    assert account(serving | {"objections": [objection]}) == [said, blocked, "next: trimtab status"]


def test_a_halt_is_told_at_once_and_as_json(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state").root
    code, out, error = typed("halt", "--reason", "[bold]all[/bold] wrong", "--state", state)
    assert (code, error) == (DONE, "")
    first, why, following = out.splitlines()
    assert why.startswith("because: [bold]all[/bold] wrong (")
    assert first.startswith("HALTED: the bare base serves everything")
    assert following.startswith("next: trimtab resume")
    assert json.loads(typed("halt", "--state", state, "--json").out)["halted"] is True


@pytest.mark.parametrize("command", ["halt", "resume", "rollback", "promote", "show 3f2a9c", "shadow stop", "label"])
def test_where_no_service_is_nothing_is_decided_and_nothing_is_made(tmp_path: Path, command: str) -> None:
    nowhere = tmp_path / "nowhere"
    assert "there is no state directory" in sentence(typed(*command.split(), "--state", nowhere), FAILED)
    assert not nowhere.exists()


@pytest.mark.parametrize("words", [["promote"], ["rollback"], ["rollback", "--incumbent"], ["pause"], ["resume"]])
def test_what_there_is_nothing_to_do_for_is_refused_in_one_sentence(tmp_path: Path, words: list[str]) -> None:
    assert sentence(typed(*words, "--state", open_state(tmp_path / "state").root), REFUSED)


def test_a_decision_about_a_state_that_is_no_more_is_refused(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state").root
    revision = json.loads(typed("halt", "--state", state, "--json").out)["revision"]
    assert typed("resume", "--expect", revision, "--state", state).code == DONE
    assert sentence(typed("halt", "--expect", revision, "--state", state), REFUSED)


def test_both_reasons_of_a_halt_are_told(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state").root
    typed("halt", "--reason", "it swears", "--state", state)
    _, why, _ = typed("halt", "--reason", "it mumbles", "--state", state).out.splitlines()
    assert why.startswith("because: it swears (")
    assert "; it mumbles (" in why
    assert "it swears" in typed("status", "--state", state).out
