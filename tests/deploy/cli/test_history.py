"""`trimtab history`, as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.state import open_state
from tests.deploy.cli.test_common import document, typed


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return open_state(tmp_path / "state").root


def test_it_is_told_newest_first_and_by_pages(state: Path) -> None:
    key = document(state, "keys", "create", "--name", "app", "--scope", "chat")["id"]
    assert typed(state, "halt", "--reason", "all wrong")[0] == 0
    assert typed(state, "resume", "--reason", "mended")[0] == 0
    told = document(state, "history")
    assert [entry["action"] for entry in told] == ["resume", "halt", "keys create"]
    assert document(state, "history", "--limit", "1", "--before", str(told[0]["number"])) == told[1:2]
    assert document(state, "history", key) == told[2:]
    code, out, _ = typed(state, "history", "--limit", "2")
    assert (code, "the service" in out, "app" in out) == (0, True, False)


def test_nothing_is_told_of_a_service_that_did_nothing(state: Path) -> None:
    assert typed(state, "history")[:2] == (0, "nothing has happened yet")
    (period,) = document(state, "history", "--shares")
    assert (period["candidate"], period["to"], period["halted"]) == (None, None, False)


def test_while_it_is_halted_no_share_is_served(state: Path) -> None:
    typed(state, "halt", "--reason", "all wrong")
    assert document(state, "history", "--shares")[0]["halted"] is True
    code, out, _ = typed(state, "history", "--shares")
    assert (code, "halted" in out, "now" in out) == (0, True, True)


@pytest.mark.parametrize("subject", ["nope", "\udcff", "a1b2"])
def test_a_subject_that_nobody_knows_is_said_to_be_none(state: Path, subject: str) -> None:
    code, out, error = typed(state, "history", subject)
    assert (code, out) == (1, "")
    assert error.startswith("trimtab: there is no candidate")


@pytest.mark.parametrize("words", [("history",), ("history", "--shares"), ("candidates",)])
def test_a_page_longer_than_any_list_is_wrong_usage(state: Path, words: tuple[str, ...]) -> None:
    assert typed(state, *words, "--limit", "1000000")[0] == 0
    code, _, error = typed(state, *words, "--limit", "9" * 30)
    assert (code, "Invalid value for '--limit'" in error) == (2, True)
