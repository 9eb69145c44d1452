"""What every command shares, and typing a command in this process: what it prints, and how it ends."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import click
import pytest

from deploy.cli import common
from deploy.errors import Failed, Refused
from deploy.state import open_state
from tests.deploy.cli.typed import streams
from tests.deploy.cli.typed import typed as run


def exactly(state: Path, *words: str) -> tuple[int, str, str]:
    """Type a command: its exit code, and what it printed and said."""
    return run(*words, "--state", state)


def typed(state: Path, *words: str) -> tuple[int, str, str]:
    """Type a command: its exit code, and what it printed and said, however the lines were broken."""
    code, out, error = exactly(state, *words)
    return code, " ".join(out.split()), " ".join(error.split())


def document(state: Path, *words: str) -> Any:
    """The JSON document of a command that must succeed and say nothing beside it."""
    code, out, error = exactly(state, *words, "--json")
    assert (code, error) == (0, "")
    return json.loads(out)


def ended(error: BaseException) -> tuple[int, str]:
    """How a command that raises this ends."""

    def command() -> None:
        raise error

    with streams() as (_, said):
        return common.run(command), said.getvalue().decode().strip()


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (Failed("it [b]broke[/b]"), 1, "trimtab: it [b]broke[/b]"),
        (Refused("not so"), 3, "trimtab: not so"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/etc/x"), 1, "trimtab: /etc/x: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 1, f"trimtab: {common.FULL}"),
        (sqlite3.OperationalError("database or disk is full"), 1, f"trimtab: {common.FULL}"),
        (click.UsageError("no such thing"), 2, "Error: no such thing"),
        (click.Abort(), 1, "stopped"),
        (KeyboardInterrupt(), 1, "stopped"),
        (BrokenPipeError(), 0, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_a_person_can_mend_ends_in_one_sentence(error: BaseException, code: int, sentence: str) -> None:
    assert ended(error) == (code, sentence)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [(Failed("no such thing"), 1, "no such thing"), (click.UsageError("no such option"), 2, "no such option")],
)
def test_an_error_is_a_document_where_json_is_asked_for(error: BaseException, code: int, message: str) -> None:
    def command() -> None:
        raise error

    with streams() as (out, told):
        assert common.run(command, as_json=True) == code
        assert (json.loads(out.getvalue()), told.getvalue()) == (
            {"error": {"message": message, "exit_code": code}},
            b"",
        )


def test_a_database_that_may_not_be_written_is_about_its_owner() -> None:
    code, sentence = ended(sqlite3.OperationalError("attempt to write a readonly database"))
    assert (code, "check its owner and permissions" in sentence) == (1, True)


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError("nameless"), sqlite3.OperationalError("no such table")])
def test_a_fault_of_ours_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        ended(error)


def test_a_document_is_readable_and_survives_half_a_character() -> None:
    with streams() as (out, _):
        common.print_json({"text": "grüß \udcff"})
        printed = out.getvalue().decode()
    assert "grüß" in printed
    assert json.loads(printed) == {"text": "grüß \udcff"}


def test_where_no_terminal_is_no_name_is_cut_however_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "a-long-name-" * 12
    state = open_state(tmp_path / name).root
    _, out, _ = exactly(state, "status")
    assert out.splitlines()[0].split() == ["state", str(state)]
    assert exactly(state, "keys", "create", "--name", name, "--scope", "chat")[0] == 0
    assert name in exactly(state, "keys", "ls")[1]


def test_a_terminal_is_as_wide_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr(common.stdout, "_force_terminal", True)
    assert common.stdout.width == 50
