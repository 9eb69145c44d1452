"""The table of the rollout's commands: what it promises is what the rules and the command line take."""

from __future__ import annotations

import inspect
import shlex

import pytest

from deploy.cli import trimtab
from deploy.decisions.commands import ROLLOUT_COMMANDS

ANY_COMMAND = pytest.mark.parametrize("name", ROLLOUT_COMMANDS)


@ANY_COMMAND
def test_a_command_takes_what_it_says_and_nothing_else(name: str) -> None:
    command = ROLLOUT_COMMANDS[name]
    taken = inspect.signature(command.run).parameters.keys() - {"self"}
    assert taken == {"actor", "reason", "expect", *command.flags}


@ANY_COMMAND
def test_its_example_is_one_that_the_command_line_takes(name: str) -> None:
    said, *arguments = shlex.split(ROLLOUT_COMMANDS[name].example)
    assert said == name
    command = trimtab.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    command.make_context(name, arguments)
