"""The `trimtab` command itself, before any command of it."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from deploy.cli import _say_at_once
from tests.deploy.commands import ROOT


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["up"], True),
        (["up", "--engine", "http://127.0.0.1:8000/v1", "--model", "m"], True),
        (["up", "--json"], False),
        (["up", "--help"], False),
        (["status"], False),
        ([], False),
    ],
)
def test_who_starts_the_service_on_a_terminal_is_told_at_once_what_is_prepared(words: list[str], said: bool) -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        _say_at_once(words, stream)
    assert ("controller, gateway, worker and trainer" in terminal.getvalue()) is said
    assert file.getvalue() == "", "logs are JSON"


def test_nothing_that_takes_long_is_loaded_before_it_is_said() -> None:
    script = "import deploy.cli, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"sqlalchemy", "pydantic", "pyarrow", "deploy.cli.common"} & set(done.stdout.split())


def test_up_does_without_what_only_its_roles_need() -> None:
    script = "import deploy.cli.up, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"faust", "openai", "fastapi", "aiohttp", "torch"} & set(done.stdout.split())
